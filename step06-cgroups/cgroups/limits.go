//go:build linux

package cgroups

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"strconv"

	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step01-pull/advice"
)

// ErrLimit says that a limit is not one that can be held.
var ErrLimit = errors.New("not a limit")

// minMemory is docker's least memory limit: a container does not start with much less. Bytes.
const minMemory = 6 << 20

// cpuPeriod is how often a share of the processors is dealt out: 100 ms, the kernel's own default. Microseconds.
const cpuPeriod = 100_000

// Limits are a container's limits as people write them: "64m" of memory, "0.5" processors, at most 100 processes.
type Limits struct {
	Memory string // bytes, with b, k, m or g; "" and "0" are no limit
	CPUs   string // processors; "" and "0" are no limit
	Pids   int64  // 0 and -1 are no limit
}

// Resources checks the limits and turns them into the specification's words. Its errors are ErrLimit. Swap may be
// used as much as memory, as with docker; NoSwap takes that away.
func (l Limits) Resources() (*specs.LinuxResources, error) {
	r := &specs.LinuxResources{}
	if l.Memory != "" {
		bytes, err := units.RAMInBytes(l.Memory)
		if err != nil {
			return nil, advice.Add(fmt.Errorf("%w: memory %q: %w", ErrLimit, l.Memory, err), "write a number with b, k, m or g, for example 64m")
		}
		if bytes != 0 {
			if bytes < minMemory {
				return nil, advice.Add(fmt.Errorf("%w: memory %q is too little", ErrLimit, l.Memory), "the least is 6m")
			}
			swap := int64(math.MaxInt64)
			if bytes < math.MaxInt64/2 {
				swap = 2 * bytes
			}
			r.Memory = &specs.LinuxMemory{Limit: &bytes, Swap: &swap}
		}
	}
	if l.CPUs != "" {
		cpus, err := strconv.ParseFloat(l.CPUs, 64)
		if err != nil || math.IsNaN(cpus) {
			return nil, advice.Add(fmt.Errorf("%w: %q processors", ErrLimit, l.CPUs), "write a number, for example 0.5")
		}
		if most := runtime.NumCPU(); cpus != 0 && (cpus < 0.01 || cpus > float64(most)) {
			return nil, advice.Add(fmt.Errorf("%w: %s processors", ErrLimit, l.CPUs), "this machine can give from 0.01 to %d", most)
		}
		if cpus != 0 {
			quota, period := int64(math.Round(cpus*cpuPeriod)), uint64(cpuPeriod)
			r.CPU = &specs.LinuxCPU{Quota: &quota, Period: &period}
		}
	}
	if l.Pids < -1 {
		return nil, advice.Add(fmt.Errorf("%w: %d processes", ErrLimit, l.Pids), "write how many processes there may be at most, -1 for no limit")
	}
	if l.Pids > 0 {
		r.Pids = &specs.LinuxPids{Limit: &l.Pids}
	}
	return r, nil
}

// NoSwap makes the memory limit hold for memory and swap together: what does not fit is not swapped out.
func NoSwap(r *specs.LinuxResources) {
	if r.Memory != nil {
		r.Memory.Swap = r.Memory.Limit
	}
}

// period is how often the share is dealt out, in microseconds: the kernel's default where the specification names none.
func period(c *specs.LinuxCPU) int64 {
	if c.Period == nil {
		return cpuPeriod
	}
	return int64(*c.Period)
}
