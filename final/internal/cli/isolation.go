//go:build linux

package cli

import (
	"github.com/spf13/pflag"

	"gocker/final/internal/engine"
)

// isolationFlags say what a container shares with others, and what it may do.
func isolationFlags(f *pflag.FlagSet, opts *engine.Isolation) {
	f.StringVar(&opts.Network, "network", "none", "`none|host`: only a loopback interface of its own, or all that the host has")
	f.StringSliceVar(&opts.CapAdd, "cap-add", nil, "`capabilities` beside the usual ones, or ALL")
	f.StringSliceVar(&opts.CapDrop, "cap-drop", nil, "`capabilities` that it does not get, or ALL")
	f.BoolVar(&opts.Privileged, "privileged", false, "all capabilities, and nothing of /proc and /sys covered: as strong as the host's root")
	f.StringArrayVar(&opts.SecurityOpts, "security-opt", nil, "`no-new-privileges` (setuid programs give nothing), seccomp=FILE or seccomp=unconfined (another filter of system calls, or none)")
}
