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
	f.Var((*list)(&limits.ReadBPS), "device-read-bps", "how many bytes it may read each second: `DEVICE:NUMBER` with b, k, m or g")
	f.Var((*list)(&limits.WriteBPS), "device-write-bps", "how many bytes it may write each second: `DEVICE:NUMBER` with b, k, m or g")
	f.Var((*list)(&limits.ReadIOPS), "device-read-iops", "how many reads it may do each second: `DEVICE:NUMBER`")
	f.Var((*list)(&limits.WriteIOPS), "device-write-iops", "how many writes it may do each second: `DEVICE:NUMBER`")
	f.StringVar(&limits.CgroupParent, "cgroup-parent", "", "make its cgroup in the cgroup with this `path`, from the root of the cgroups")
	f.IntVar(&limits.OOMScoreAdj, "oom-score-adj", 0, "`number` from -1000 to 1000: when memory runs out, the kernel kills processes with high numbers first")
	f.Var((*list)(&limits.Devices), "device", "let it use a device: `HOST[:CONTAINER][:rwm]` (read, write, make nodes)")
	f.Var((*list)(&limits.DeviceRules), "device-cgroup-rule", "let it use devices by their numbers, also devices that appear later: `'c 189:* rwm'`")
}

// changeableFlags are those that update can change.
func changeableFlags(f *pflag.FlagSet, limits *resources.Limits) {
	f.StringVarP(&limits.Memory, "memory", "m", "", "memory `limit`: bytes, with b, k, m or g")
	f.StringVar(&limits.MemorySwap, "memory-swap", "", "`limit` of memory and swap together; -1: no limit of swap (default: twice the memory)")
	f.StringVar(&limits.MemoryReservation, "memory-reservation", "", "`bytes` that the kernel tries to leave it when memory is scarce")
	f.StringVar(&limits.CPUs, "cpus", "", "`number` of processors, for example 0.5")
	f.Uint64VarP(&limits.CPUShares, "cpu-shares", "c", 0, "`weight` against other containers when all are busy; the usual weight is 1024")
	f.Int64Var(&limits.CPUPeriod, "cpu-period", 0, "`microseconds` of each period, for --cpu-quota")
	f.Int64Var(&limits.CPUQuota, "cpu-quota", 0, "`microseconds` of processor time in each period; -1: no limit")
	f.StringVar(&limits.CPUSetCPUs, "cpuset-cpus", "", "use only these `processors`, for example 0-2,5")
	f.StringVar(&limits.CPUSetMems, "cpuset-mems", "", "use only the memory of these NUMA `nodes`, for example 0")
	f.Int64Var(&limits.Pids, "pids-limit", 0, "how many `processes` it may have; -1: no limit")
	f.Uint16Var(&limits.BlkioWeight, "blkio-weight", 0, "`weight` against other containers when disks are busy, 10 to 1000")
}
