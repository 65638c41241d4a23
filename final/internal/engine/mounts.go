//go:build linux

package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step01-pull/advice"
)

// ErrOption says that a flag's value is not one that gocker knows.
var ErrOption = errors.New("not supported")

// Mounts are the flags of "run" that say what is mounted.
type Mounts struct {
	Binds    []string // HOST:CONTAINER[:ro]
	Tmpfs    []string // folders, with mount options behind a colon
	Readonly bool     // the root, not what is mounted below it
}

// addMounts adds what the user wants to be mounted.
func addMounts(spec *specs.Spec, opts Mounts) error {
	spec.Root.Readonly = opts.Readonly
	for _, b := range opts.Binds {
		m, err := parseBind(b)
		if err != nil {
			return err
		}
		spec.Mounts = append(spec.Mounts, m)
	}
	for _, t := range opts.Tmpfs {
		destination, options, _ := strings.Cut(t, ":")
		if !filepath.IsAbs(destination) {
			return advice.Add(fmt.Errorf("--tmpfs %q: %w", t, ErrOption), "write the folder's whole name: /DIR[:size=64m,mode=1777]")
		}
		m := specs.Mount{Destination: filepath.Clean(destination), Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "noexec"}}
		if options != "" {
			m.Options = append(m.Options, strings.Split(options, ",")...)
		}
		spec.Mounts = append(spec.Mounts, m)
	}
	return nil
}

// parseBind reads HOST:CONTAINER[:ro|rw]. docker would make a missing folder on the host, and a typing error with it.
func parseBind(s string) (specs.Mount, error) {
	const form = "write -v /HOST/DIR:/DIR, with :ro behind it to have it read-only"
	parts := strings.Split(s, ":")
	if len(parts) < 2 || len(parts) > 3 || !filepath.IsAbs(parts[1]) || filepath.Clean(parts[1]) == "/" {
		return specs.Mount{}, advice.Add(fmt.Errorf("-v %q: %w", s, ErrOption), form)
	}
	if !strings.HasPrefix(parts[0], ".") && !filepath.IsAbs(parts[0]) {
		return specs.Mount{}, advice.Add(fmt.Errorf("-v %q: %w: named volumes", s, ErrOption), form)
	}
	source, err := filepath.Abs(parts[0])
	if err != nil {
		return specs.Mount{}, err
	}
	if _, err := os.Stat(source); err != nil {
		return specs.Mount{}, advice.Add(fmt.Errorf("-v %q: %w", s, err), "make it first: mkdir -p %s", source)
	}
	m := specs.Mount{Destination: filepath.Clean(parts[1]), Type: "bind", Source: source}
	if len(parts) == 3 {
		for _, option := range strings.Split(parts[2], ",") {
			switch option {
			case "ro":
				m.Options = append(m.Options, "ro")
			case "rw":
			default:
				return specs.Mount{}, advice.Add(fmt.Errorf("-v %q: %w: option %q", s, ErrOption, option), form)
			}
		}
	}
	return m, nil
}
