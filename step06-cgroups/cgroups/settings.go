//go:build linux

package cgroups

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step04-overlay/check"
	"gocker/step06-cgroups/trees"
)

// cpuPeriod is how often a share of the processors is dealt out: 100 ms, the kernel's own default. Microseconds.
const cpuPeriod = "100000"

// A Setting is one limit: a file of v2 and what is written there, and a file of v1 and what is written there. A value
// that is "" is not written.
type Setting struct {
	Limit           string // for people
	V2File, V2Value string
	V1File, V1Value string
}

// Settings is the table of limits. A limit that resources do not name has the value "".
func Settings(r *specs.LinuxResources) []Setting {
	memory, cpu, pids := cmp.Or(r.Memory, &specs.LinuxMemory{}), cmp.Or(r.CPU, &specs.LinuxCPU{}), cmp.Or(r.Pids, &specs.LinuxPids{})
	return []Setting{
		{"memory", "memory.max", Max(memory.Limit), "memory.limit_in_bytes", number(memory.Limit)},
		{"memory and swap", "memory.swap.max", Max(swapAlone(memory)), "memory.memsw.limit_in_bytes", number(memory.Swap)},
		{"CPU period", "", "", "cpu.cfs_period_us", number(cpu.Period)},
		{"CPU quota", "cpu.max", quotaOfPeriod(cpu), "cpu.cfs_quota_us", number(cpu.Quota)},
		{"pids", "pids.max", Max(pids.Limit), "pids.max", Max(pids.Limit)},
	}
}

// Set writes limits.
func Set(cg Cgroup, settings []Setting) error {
	for _, s := range settings {
		value := cg.Word(s.V2Value, s.V1Value)
		if value == "" {
			continue
		}
		err := Write(cg, cg.Word(s.V2File, s.V1File), value)
		if errors.Is(err, ErrUnsupported) && s.Limit == "memory and swap" {
			continue // a kernel that does not count swap: the limit of memory holds
		}
		if err != nil {
			return check.Explain(fmt.Errorf("limit %s: %w", s.Limit, err), []check.Result{trees.Check(Controllers...)})
		}
	}
	return nil
}

// number is a number that may not be named.
func number[T int64 | uint64](n *T) string {
	if n == nil {
		return ""
	}
	return fmt.Sprint(*n)
}

// Max is a limit as v2 writes it. No limit is "max", which the specification writes as -1.
func Max(limit *int64) string {
	if limit != nil && *limit < 0 {
		return "max"
	}
	return number(limit)
}

// swapAlone is v2's limit of swap. The specification, like v1, counts memory and swap together.
func swapAlone(m *specs.LinuxMemory) *int64 {
	if m.Swap == nil || *m.Swap < 0 || m.Limit == nil || *m.Limit < 0 {
		return m.Swap
	}
	swap := *m.Swap - *m.Limit
	return &swap
}

// quotaOfPeriod is v2's share of the processors: both numbers in one file.
func quotaOfPeriod(c *specs.LinuxCPU) string {
	if c.Quota == nil && c.Period == nil {
		return ""
	}
	return fmt.Sprint(cmp.Or(Max(c.Quota), "max"), " ", cmp.Or(number(c.Period), cpuPeriod))
}
