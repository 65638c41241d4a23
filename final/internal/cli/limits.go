//go:build linux

package cli

import (
	"github.com/spf13/pflag"

	"gocker/step06-cgroups/cgroups"
)

func resourceFlags(f *pflag.FlagSet, limits *cgroups.Limits) {
	f.StringVarP(&limits.Memory, "memory", "m", "", "memory `limit`: bytes, with b, k, m or g")
	f.StringVar(&limits.CPUs, "cpus", "", "`number` of processors, for example 0.5")
	f.Int64Var(&limits.Pids, "pids-limit", 0, "most `processes`, -1 for no limit")
}
