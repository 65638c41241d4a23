//go:build linux

// Package resources has what the runtime can limit beside what step 6 does: reservations, weights, processors and memory
// nodes by name, disks. It also stops a cgroup and lets it go on, and finds limits that stand above it.
//
//	cg, err := cgroups.New(f, path)
//	err = resources.Set(cg, spec.Linux.Resources)    // all limits, before a process is in there
//	err = resources.Update(cg, changed)              // while processes run
//	err = resources.Freeze(cg)
package resources

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step06-cgroups/limits"
)

// Limits are a container's limits as people write them. A field that is empty or 0 sets no limit.
type Limits struct {
	limits.Limits
	MemorySwap        string // memory and swap together; "-1": no limit of swap; not named: twice the memory
	MemoryReservation string // what others should leave it when memory is scarce

	CPUPeriod  int64  // microseconds
	CPUQuota   int64  // microseconds of each period; -1: no limit
	CPUShares  uint64 // weight against others, when all want more than there is: 1024 is everybody's
	CPUSetCPUs string // which processors, as "0-2,5"
	CPUSetMems string // which NUMA nodes' memory

	BlkioWeight uint16   // weight against others, 10 to 1000
	ReadBPS     []string // DEVICE:BYTES a second, bytes with b, k, m or g
	WriteBPS    []string
	ReadIOPS    []string // DEVICE:NUMBER of reads a second
	WriteIOPS   []string
}

// Resources checks the limits and turns them into the specification's words. Its errors are limits.ErrLimit. Swap may be
// used as much as memory, as with docker.
func (l Limits) Resources() (*specs.LinuxResources, error) {
	r := &specs.LinuxResources{}
	return r, l.Apply(r)
}

// Apply changes resources to what the limits name, and leaves what they do not name.
func (l Limits) Apply(r *specs.LinuxResources) error {
	return cmp.Or(l.Limits.Apply(r), l.applyMemory(r), l.applyCPU(r), l.applyBlockIO(r))
}

func (l Limits) applyMemory(r *specs.LinuxResources) error {
	limit, err := limits.Memory("memory", l.Memory)
	if err != nil {
		return err
	}
	reservation, err := limits.Memory("memory reservation", l.MemoryReservation)
	if err != nil {
		return err
	}
	swap := int64(-1)
	if l.MemorySwap != "-1" {
		if swap, err = limits.Bytes("memory and swap", l.MemorySwap); err != nil {
			return err
		}
	}
	if limit == 0 && reservation == 0 && swap == 0 {
		return nil
	}
	m := cmp.Or(r.Memory, &specs.LinuxMemory{})
	r.Memory = m
	if reservation != 0 {
		m.Reservation = &reservation
	}
	if swap != 0 {
		m.Swap = &swap
	}
	if m.Swap == nil && limit != 0 {
		twice := int64(math.MaxInt64)
		if limit < math.MaxInt64/2 {
			twice = 2 * limit
		}
		m.Swap = &twice
	}
	switch {
	case m.Swap != nil && *m.Swap > 0 && m.Limit == nil:
		return advice.Add(fmt.Errorf("%w: memory and swap %q without a limit of memory", limits.ErrLimit, l.MemorySwap), "name the limit of memory too")
	case m.Swap != nil && m.Limit != nil && *m.Swap >= 0 && *m.Swap < *m.Limit:
		return advice.Add(fmt.Errorf("%w: memory and swap together are less than memory, %s < %s", limits.ErrLimit, units.BytesSize(float64(*m.Swap)), units.BytesSize(float64(*m.Limit))),
			"set both, or -1 for no limit of swap: --memory-swap")
	case m.Reservation != nil && m.Limit != nil && *m.Limit < *m.Reservation:
		return advice.Add(fmt.Errorf("%w: memory reservation of %s", limits.ErrLimit, units.BytesSize(float64(*m.Reservation))),
			"it cannot be more than the limit of memory, %s", units.BytesSize(float64(*m.Limit)))
	}
	return nil
}

func (l Limits) applyCPU(r *specs.LinuxResources) error {
	period, quota := uint64(l.CPUPeriod), l.CPUQuota
	if cpus, _ := strconv.ParseFloat(l.CPUs, 64); cpus != 0 && (period != 0 || quota != 0) {
		return advice.Add(fmt.Errorf("%w: %s processors, and a period or quota", limits.ErrLimit, l.CPUs), "both say the same: leave one out")
	}
	if period != 0 && (period < 1000 || period > 1_000_000) {
		return advice.Add(fmt.Errorf("%w: CPU period of %d microseconds", limits.ErrLimit, l.CPUPeriod), "it is from 1000 to 1000000")
	}
	if quota < -1 || quota > 0 && quota < 1000 {
		return advice.Add(fmt.Errorf("%w: CPU quota of %d microseconds", limits.ErrLimit, quota), "it is at least 1000, or -1 for no limit")
	}
	cpus, err := list(l.CPUSetCPUs, "processors", "/sys/devices/system/cpu/online")
	if err != nil {
		return err
	}
	nodes, err := list(l.CPUSetMems, "memory nodes", "/sys/devices/system/node/online")
	if err != nil {
		return err
	}
	if period == 0 && quota == 0 && l.CPUShares == 0 && cpus == "" && nodes == "" {
		return nil
	}
	c := cmp.Or(r.CPU, &specs.LinuxCPU{})
	r.CPU = c
	if period != 0 {
		c.Period = &period
	}
	if quota != 0 {
		c.Quota = &quota
	}
	if l.CPUShares != 0 {
		c.Shares = &l.CPUShares
	}
	c.Cpus, c.Mems = cmp.Or(cpus, c.Cpus), cmp.Or(nodes, c.Mems)
	return nil
}

// list checks a list as "0-2,5" against the one of those that there are. The kernel's v2 would take any.
func list(s, what, online string) (string, error) {
	if s == "" {
		return "", nil
	}
	have := "0" // a kernel without NUMA has no such file
	if raw, err := os.ReadFile(online); err == nil {
		have = strings.TrimSpace(string(raw))
	}
	there, _ := parseList(have)
	want, ok := parseList(s)
	if !ok {
		return "", advice.Add(fmt.Errorf("%w: %s %q", limits.ErrLimit, what, s), "write numbers and ranges, for example 0-2,5")
	}
	for n := range want {
		if !there[n] {
			return "", advice.Add(fmt.Errorf("%w: %s %q", limits.ErrLimit, what, s), "this machine has %s", have)
		}
	}
	return s, nil
}

// parseList reads "List format" of cpuset(7).
func parseList(s string) (numbers map[int]bool, ok bool) {
	numbers = map[int]bool{}
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err1 := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		if err1 != nil || err2 != nil || from > to {
			return nil, false
		}
		for n := from; n <= to; n++ {
			numbers[int(n)] = true
		}
	}
	return numbers, true
}

func (l Limits) applyBlockIO(r *specs.LinuxResources) error {
	b := specs.LinuxBlockIO{}
	if r.BlockIO != nil {
		b = *r.BlockIO
	}
	if l.BlkioWeight != 0 {
		if l.BlkioWeight < 10 || l.BlkioWeight > 1000 {
			return advice.Add(fmt.Errorf("%w: block IO weight of %d", limits.ErrLimit, l.BlkioWeight), "it is from 10 to 1000")
		}
		b.Weight = &l.BlkioWeight
	}
	for _, rate := range []struct {
		what    string
		rates   []string
		parse   func(string) (int64, error)
		devices *[]specs.LinuxThrottleDevice
	}{
		{"bytes read", l.ReadBPS, units.RAMInBytes, &b.ThrottleReadBpsDevice},
		{"bytes written", l.WriteBPS, units.RAMInBytes, &b.ThrottleWriteBpsDevice},
		{"reads", l.ReadIOPS, decimal, &b.ThrottleReadIOPSDevice},
		{"writes", l.WriteIOPS, decimal, &b.ThrottleWriteIOPSDevice},
	} {
		for _, s := range rate.rates {
			device, err := throttle(s, rate.parse)
			if err != nil {
				return advice.Add(fmt.Errorf("%w: %s a second %q: %w", limits.ErrLimit, rate.what, s, err), "write a device and a number, for example /dev/sda:1m or :100")
			}
			*rate.devices = append(*rate.devices, device)
		}
	}
	if b.Weight != nil || len(b.ThrottleReadBpsDevice)+len(b.ThrottleWriteBpsDevice)+len(b.ThrottleReadIOPSDevice)+len(b.ThrottleWriteIOPSDevice) > 0 {
		r.BlockIO = &b
	}
	return nil
}

func decimal(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }

// throttle reads "/dev/sda:1m".
func throttle(s string, parse func(string) (int64, error)) (d specs.LinuxThrottleDevice, err error) {
	at := strings.LastIndexByte(s, ':')
	if at < 0 {
		return d, errors.New("no colon")
	}
	rate, err := parse(s[at+1:])
	if err != nil || rate <= 0 {
		return d, cmp.Or(err, errors.New("not a rate"))
	}
	var stat unix.Stat_t
	if err := unix.Stat(s[:at], &stat); err != nil {
		return d, err
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFBLK {
		return d, errors.New("not a block device")
	}
	d.Major, d.Minor, d.Rate = int64(unix.Major(stat.Rdev)), int64(unix.Minor(stat.Rdev)), uint64(rate)
	return d, nil
}
