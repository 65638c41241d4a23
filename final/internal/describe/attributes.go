//go:build linux

package describe

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/final/internal/tiny"
	"gocker/step01-pull/shared/advice"
	"gocker/step04-overlay/overlay"
)

// Attributes are flags of "run" that the kernel keeps for a process, or for a namespace.
type Attributes struct {
	Ulimits    []string // nofile=SOFT[:HARD]
	Sysctls    []string // KEY=value
	GroupAdd   []string // more groups, by name or number
	Domainname string
	Umask      string // octal; "" is 022
	Init       bool   // PID 1 is not the command, but a small program that starts it
}

// setAttributes puts them into the spec; groups are those of LookUser.
func setAttributes(spec *specs.Spec, opts Attributes) error {
	if opts.Umask != "" {
		n, err := strconv.ParseUint(opts.Umask, 8, 9)
		if err != nil {
			return advice.Add(fmt.Errorf("--umask %q: %w", opts.Umask, ErrOption), "write an octal number, for example 027")
		}
		umask := uint32(n)
		spec.Process.User.Umask = &umask
	}
	for _, limit := range opts.Ulimits {
		l, err := units.ParseUlimit(limit)
		if err != nil {
			return advice.Add(fmt.Errorf("--ulimit %q: %w", limit, err), "write NAME=SOFT[:HARD], for example nofile=1024; -1 is no limit")
		}
		unlimited := func(n int64) uint64 {
			if n == -1 {
				return math.MaxUint64
			}
			return uint64(n)
		}
		spec.Process.Rlimits = append(spec.Process.Rlimits, specs.POSIXRlimit{
			Type: "RLIMIT_" + strings.ToUpper(l.Name), Soft: unlimited(l.Soft), Hard: unlimited(l.Hard),
		})
	}
	for _, sysctl := range opts.Sysctls {
		key, value, ok := strings.Cut(sysctl, "=")
		if !ok || key == "" {
			return advice.Add(fmt.Errorf("--sysctl %q: %w", sysctl, ErrOption), "write NAME=VALUE, for example net.ipv4.ip_forward=1")
		}
		if spec.Linux.Sysctl == nil {
			spec.Linux.Sysctl = map[string]string{}
		}
		spec.Linux.Sysctl[key] = value
	}
	spec.Domainname = opts.Domainname
	return nil
}

// initName is the file of a container's folder that is seen as tiny.InitPath in the container.
const initName = "init"

// addInit puts tiny.Init in front of the command.
func addInit(f *overlay.FS, spec *specs.Spec) error {
	file := filepath.Join(f.Dir, initName)
	if err := os.WriteFile(file, tiny.Init(), 0o755); err != nil {
		return err
	}
	spec.Mounts = append(spec.Mounts, specs.Mount{
		Destination: tiny.InitPath, Type: "bind", Source: file, Options: []string{"rbind", "rprivate", "ro", "exec"}, // /run may be noexec
	})
	process := spec.Process
	process.Args = append([]string{tiny.InitPath, process.Args[0]}, process.Args...)
	return nil
}
