//go:build linux

package engine

import (
	"fmt"
	"os"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step01-pull/advice"
)

// Isolation are the flags of "run" that say what a container shares with others, and what it may do.
type Isolation struct {
	Network string // "none", also if empty: only loopback; "host": the host's

	Privileged      bool // nothing is taken away: what follows is not looked at
	CapAdd, CapDrop []string
	SecurityOpts    []string
}

// isolate takes away the namespaces whose host's ones are wanted.
func isolate(spec *specs.Spec, opts Isolation) error {
	switch opts.Network {
	case "", "none":
	case "host":
		spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(ns specs.LinuxNamespace) bool {
			return ns.Type == specs.NetworkNamespace
		})
		// Names are looked up as the host does.
		for _, file := range []string{"/etc/hosts", "/etc/resolv.conf"} {
			if _, err := os.Stat(file); err == nil {
				spec.Mounts = append(spec.Mounts, specs.Mount{Destination: file, Type: "bind", Source: file, Options: []string{"ro"}})
			}
		}
	default:
		return advice.Add(fmt.Errorf("--network %q: %w", opts.Network, ErrOption), "there are none and host")
	}
	return nil
}
