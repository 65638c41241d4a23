//go:build linux

package cgroups

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
)

// ErrLimit says that a limit is not one that can be held.
var ErrLimit = errors.New("not a limit")

// minMemory is docker's least memory limit: a container does not start with much less. Bytes.
const minMemory = 6 << 20

// cpuPeriod is how often a share of the processors is dealt out: 100 ms, the kernel's own default. Microseconds.
const cpuPeriod = 100_000

// Limits are a container's limits as people write them: "64m" of memory, "0.5" processors, at most 100 processes. What
// is empty or 0 is not named.
type Limits struct {
	Memory            string // bytes, with b, k, m or g
	MemorySwap        string // memory and swap together; "-1": no limit of swap; not named: twice the memory
	MemoryReservation string // what others should leave it when memory is scarce

	CPUs       string // processors
	CPUPeriod  int64  // microseconds
	CPUQuota   int64  // microseconds of each period; -1: no limit
	CPUShares  uint64 // weight against others, when all want more than there is: 1024 is everybody's
	CPUSetCPUs string // which processors, as "0-2,5"
	CPUSetMems string // which NUMA nodes' memory

	Pids int64 // -1: no limit

	BlkioWeight uint16   // weight against others, 10 to 1000
	ReadBPS     []string // DEVICE:BYTES a second, bytes as above
	WriteBPS    []string
	ReadIOPS    []string // DEVICE:NUMBER of reads a second
	WriteIOPS   []string
}

// Resources checks the limits and turns them into the specification's words. Its errors are ErrLimit. Swap may be
// used as much as memory, as with docker; NoSwap takes that away.
func (l Limits) Resources() (*specs.LinuxResources, error) {
	r := &specs.LinuxResources{}
	return r, l.Apply(r)
}

// Apply changes resources to what the limits name, and leaves what they do not name.
func (l Limits) Apply(r *specs.LinuxResources) error {
	return cmp.Or(l.applyMemory(r), l.applyCPU(r), l.applyPids(r), l.applyBlockIO(r))
}

func (l Limits) applyMemory(r *specs.LinuxResources) error {
	limit, err := memory("memory", l.Memory)
	if err != nil {
		return err
	}
	reservation, err := memory("memory reservation", l.MemoryReservation)
	if err != nil {
		return err
	}
	swap := int64(-1)
	if l.MemorySwap != "-1" {
		if swap, err = amount("memory and swap", l.MemorySwap); err != nil {
			return err
		}
	}
	if limit == 0 && reservation == 0 && swap == 0 {
		return nil
	}
	m := r.Memory
	if m == nil {
		m = &specs.LinuxMemory{}
		r.Memory = m
	}
	if limit != 0 {
		if m.Limit = &limit; m.Swap == nil {
			twice := int64(math.MaxInt64)
			if limit < math.MaxInt64/2 {
				twice = 2 * limit
			}
			m.Swap = &twice
		}
	}
	if reservation != 0 {
		m.Reservation = &reservation
	}
	if swap != 0 {
		m.Swap = &swap
	}
	switch {
	case m.Swap != nil && *m.Swap > 0 && m.Limit == nil:
		return advice.Add(fmt.Errorf("%w: memory and swap %q without a limit of memory", ErrLimit, l.MemorySwap), "name the limit of memory too")
	case m.Swap != nil && m.Limit != nil && *m.Swap >= 0 && *m.Swap < *m.Limit:
		return advice.Add(fmt.Errorf("%w: memory and swap together are less than memory, %s < %s", ErrLimit, units.BytesSize(float64(*m.Swap)), units.BytesSize(float64(*m.Limit))),
			"set both, or -1 for no limit of swap: --memory-swap")
	case m.Reservation != nil && m.Limit != nil && *m.Limit < *m.Reservation:
		return advice.Add(fmt.Errorf("%w: memory reservation of %s", ErrLimit, units.BytesSize(float64(*m.Reservation))),
			"it cannot be more than the limit of memory, %s", units.BytesSize(float64(*m.Limit)))
	}
	return nil
}

// amount reads a number of bytes; "" is 0.
func amount(what, s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := units.RAMInBytes(s)
	if err != nil {
		return 0, advice.Add(fmt.Errorf("%w: %s %q: %w", ErrLimit, what, s, err), "write a number with b, k, m or g, for example 64m")
	}
	return n, nil
}

// memory is amount for what a container cannot do with much less of.
func memory(what, s string) (int64, error) {
	n, err := amount(what, s)
	if err == nil && n != 0 && n < minMemory {
		err = advice.Add(fmt.Errorf("%w: %s %q is too little", ErrLimit, what, s), "the least is 6m")
	}
	return n, err
}

func (l Limits) applyCPU(r *specs.LinuxResources) error {
	period, quota := uint64(l.CPUPeriod), l.CPUQuota
	if l.CPUs != "" {
		cpus, err := strconv.ParseFloat(l.CPUs, 64)
		if err != nil || math.IsNaN(cpus) {
			return advice.Add(fmt.Errorf("%w: %q processors", ErrLimit, l.CPUs), "write a number, for example 0.5")
		}
		if most := runtime.NumCPU(); cpus != 0 && (cpus < 0.01 || cpus > float64(most)) {
			return advice.Add(fmt.Errorf("%w: %s processors", ErrLimit, l.CPUs), "this machine can give from 0.01 to %d", most)
		}
		if cpus != 0 {
			if period != 0 || quota != 0 {
				return advice.Add(fmt.Errorf("%w: %s processors, and a period or quota", ErrLimit, l.CPUs), "both say the same: leave one out")
			}
			quota, period = int64(math.Round(cpus*cpuPeriod)), cpuPeriod
		}
	}
	if period != 0 && (period < 1000 || period > 1_000_000) {
		return advice.Add(fmt.Errorf("%w: CPU period of %d microseconds", ErrLimit, l.CPUPeriod), "it is from 1000 to 1000000")
	}
	if quota < -1 || quota > 0 && quota < 1000 {
		return advice.Add(fmt.Errorf("%w: CPU quota of %d microseconds", ErrLimit, quota), "it is at least 1000, or -1 for no limit")
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
	c := r.CPU
	if c == nil {
		c = &specs.LinuxCPU{}
		r.CPU = c
	}
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
		return "", advice.Add(fmt.Errorf("%w: %s %q", ErrLimit, what, s), "write numbers and ranges, for example 0-2,5")
	}
	for n := range want {
		if !there[n] {
			return "", advice.Add(fmt.Errorf("%w: %s %q", ErrLimit, what, s), "this machine has %s", have)
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

func (l Limits) applyPids(r *specs.LinuxResources) error {
	if l.Pids < -1 {
		return advice.Add(fmt.Errorf("%w: %d processes", ErrLimit, l.Pids), "write how many processes there may be at most, -1 for no limit")
	}
	if l.Pids > 0 || l.Pids == -1 && r.Pids != nil {
		r.Pids = &specs.LinuxPids{Limit: &l.Pids}
	}
	return nil
}

func (l Limits) applyBlockIO(r *specs.LinuxResources) error {
	b := specs.LinuxBlockIO{}
	if r.BlockIO != nil {
		b = *r.BlockIO
	}
	if l.BlkioWeight != 0 {
		if l.BlkioWeight < 10 || l.BlkioWeight > 1000 {
			return advice.Add(fmt.Errorf("%w: block IO weight of %d", ErrLimit, l.BlkioWeight), "it is from 10 to 1000")
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
				return advice.Add(fmt.Errorf("%w: %s a second %q: %w", ErrLimit, rate.what, s, err), "write a device and a number, for example /dev/sda:1m or :100")
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

// NoSwap makes the memory limit hold for memory and swap together: what does not fit is not swapped out.
func NoSwap(r *specs.LinuxResources) {
	if r.Memory != nil {
		r.Memory.Swap = r.Memory.Limit
	}
}
