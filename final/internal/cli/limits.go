//go:build linux

package cli

import (
	"github.com/spf13/pflag"

	"gocker/final/internal/describe"
	"gocker/final/internal/resources"
)

// resourceFlags say what a container gets of the machine.
func resourceFlags(f *pflag.FlagSet, limits *describe.Limits) {
	changeableFlags(f, &limits.Limits)
	f.Var((*list)(&limits.ReadBPS), "device-read-bps", "most bytes read a second: `DEVICE:NUMBER` with b, k, m or g")
	f.Var((*list)(&limits.WriteBPS), "device-write-bps", "most bytes written a second: `DEVICE:NUMBER` with b, k, m or g")
	f.Var((*list)(&limits.ReadIOPS), "device-read-iops", "most reads a second: `DEVICE:NUMBER`")
	f.Var((*list)(&limits.WriteIOPS), "device-write-iops", "most writes a second: `DEVICE:NUMBER`")
	f.StringVar(&limits.CgroupParent, "cgroup-parent", "", "make its cgroup in this one, a `path` from the root of the cgroups")
	f.IntVar(&limits.OOMScoreAdj, "oom-score-adj", 0, "when the machine has no memory left, kill it sooner (up to 1000) or later (down to -1000): a `number`")
	f.Var((*list)(&limits.Devices), "device", "let it use a device: `HOST[:CONTAINER][:rwm]` (read, write, make nodes)")
	f.Var((*list)(&limits.DeviceRules), "device-cgroup-rule", "let it use devices that it makes nodes for, or that come later: `'c 189:* rwm'`")
}

// changeableFlags are those that update can change.
func changeableFlags(f *pflag.FlagSet, limits *resources.Limits) {
	f.StringVarP(&limits.Memory, "memory", "m", "", "memory `limit`: bytes, with b, k, m or g")
	f.StringVar(&limits.MemorySwap, "memory-swap", "", "`limit` of memory and swap together, -1 for no limit of swap (default twice the memory)")
	f.StringVar(&limits.MemoryReservation, "memory-reservation", "", "`bytes` that others should leave it when memory is scarce")
	f.StringVar(&limits.CPUs, "cpus", "", "`number` of processors, for example 0.5")
	f.Uint64VarP(&limits.CPUShares, "cpu-shares", "c", 0, "`weight` against others when all want more than there is; 1024 is everybody's")
	f.Int64Var(&limits.CPUPeriod, "cpu-period", 0, "`microseconds` of the period that --cpu-quota is of")
	f.Int64Var(&limits.CPUQuota, "cpu-quota", 0, "`microseconds` of processor time in each period, -1 for no limit")
	f.StringVar(&limits.CPUSetCPUs, "cpuset-cpus", "", "which `processors`, for example 0-2,5")
	f.StringVar(&limits.CPUSetMems, "cpuset-mems", "", "which NUMA `nodes`' memory, for example 0")
	f.Int64Var(&limits.Pids, "pids-limit", 0, "most `processes`, -1 for no limit")
	f.Uint16Var(&limits.BlkioWeight, "blkio-weight", 0, "`weight` against others for disks, 10 to 1000")
}
