//go:build linux

// Package limits reads limits as people write them: "64m" of memory, "0.5" processors, at most 100 processes.
package limits

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strconv"

	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step01-pull/shared/advice"
)

// ErrLimit says that a limit is not one that can be held.
var ErrLimit = errors.New("not a limit")

// minMemory is docker's least memory limit: a container does not start with much less. Bytes.
const minMemory = 6 << 20

// cpuPeriod is how often a share of the processors is dealt out: 100 ms, the kernel's own default. Microseconds.
const cpuPeriod = 100_000

// Limits are a container's. A field that is empty or 0 sets no limit.
type Limits struct {
	Memory string // bytes, with b, k, m or g
	CPUs   string // processors
	Pids   int64  // -1: no limit
}

// Resources checks the limits and turns them into the specification's words. Its errors are ErrLimit. Memory is limited
// with swap: what does not fit is not swapped out.
func (l Limits) Resources() (*specs.LinuxResources, error) {
	r := &specs.LinuxResources{}
	err := l.Apply(r)
	if r.Memory != nil {
		r.Memory.Swap = r.Memory.Limit
	}
	return r, err
}

// Apply changes resources to what the limits name, and leaves what they do not name. Swap is not one of them.
func (l Limits) Apply(r *specs.LinuxResources) error {
	memory, err := Memory("memory", l.Memory)
	if err != nil {
		return err
	}
	quota, err := l.quota()
	if err != nil {
		return err
	}
	if l.Pids < -1 {
		return advice.Add(fmt.Errorf("%w: %d processes", ErrLimit, l.Pids), "write how many processes there may be at most, -1 for no limit")
	}
	if memory != 0 {
		r.Memory = cmp.Or(r.Memory, &specs.LinuxMemory{})
		r.Memory.Limit = &memory
	}
	if quota != 0 {
		period := uint64(cpuPeriod)
		r.CPU = cmp.Or(r.CPU, &specs.LinuxCPU{})
		r.CPU.Quota, r.CPU.Period = &quota, &period
	}
	if l.Pids > 0 || l.Pids == -1 && r.Pids != nil {
		r.Pids = &specs.LinuxPids{Limit: &l.Pids}
	}
	return nil
}

// Bytes reads a number of bytes; "" is 0.
func Bytes(what, s string) (int64, error) {
	n, err := units.RAMInBytes(cmp.Or(s, "0"))
	if err != nil {
		return 0, advice.Add(fmt.Errorf("%w: %s %q: %w", ErrLimit, what, s, err), "write a number with b, k, m or g, for example 64m")
	}
	return n, nil
}

// Memory is Bytes for what a container cannot do with much less of.
func Memory(what, s string) (int64, error) {
	n, err := Bytes(what, s)
	if err == nil && n != 0 && n < minMemory {
		err = advice.Add(fmt.Errorf("%w: %s %q is too little", ErrLimit, what, s), "the least is 6m")
	}
	return n, err
}

// quota is processor time in each cpuPeriod. Microseconds; 0: not named.
func (l Limits) quota() (int64, error) {
	cpus, err := strconv.ParseFloat(cmp.Or(l.CPUs, "0"), 64)
	if err != nil || math.IsNaN(cpus) {
		return 0, advice.Add(fmt.Errorf("%w: %q processors", ErrLimit, l.CPUs), "write a number, for example 0.5")
	}
	if most := runtime.NumCPU(); cpus != 0 && (cpus < 0.01 || cpus > float64(most)) {
		return 0, advice.Add(fmt.Errorf("%w: %s processors", ErrLimit, l.CPUs), "this machine can give from 0.01 to %d", most)
	}
	return int64(math.Round(cpus * cpuPeriod)), nil
}
