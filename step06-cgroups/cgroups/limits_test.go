//go:build linux

package cgroups_test

import (
	"errors"
	"math"
	"testing"

	"gocker/step06-cgroups/cgroups"
)

func TestLimitsAreReadAsDockerReadsThem(t *testing.T) {
	// 0: the specification does not name it.
	for _, tt := range []struct {
		limits                    cgroups.Limits
		memory, swap, quota, pids int64
	}{
		{cgroups.Limits{}, 0, 0, 0, 0},
		{cgroups.Limits{Memory: "0", CPUs: "0", Pids: -1}, 0, 0, 0, 0},
		{cgroups.Limits{Memory: "6m"}, 6 << 20, 12 << 20, 0, 0},
		{cgroups.Limits{Memory: "64M"}, 64 << 20, 128 << 20, 0, 0},
		{cgroups.Limits{Memory: "1.5g"}, 3 << 29, 3 << 30, 0, 0},
		{cgroups.Limits{Memory: "8388608"}, 8 << 20, 16 << 20, 0, 0},
		{cgroups.Limits{Memory: "8192k"}, 8 << 20, 16 << 20, 0, 0},
		{cgroups.Limits{Memory: "5000000t"}, 5000000 << 40, math.MaxInt64, 0, 0},
		{cgroups.Limits{CPUs: "0.5"}, 0, 0, 50_000, 0},
		{cgroups.Limits{CPUs: "1"}, 0, 0, 100_000, 0},
		{cgroups.Limits{CPUs: ".01"}, 0, 0, 1_000, 0},
		{cgroups.Limits{Pids: 1}, 0, 0, 0, 1},
	} {
		r, err := tt.limits.Resources()
		if err != nil {
			t.Errorf("%+v: %v", tt.limits, err)
			continue
		}
		var memory, swap, quota, pids int64
		if r.Memory != nil {
			memory, swap = *r.Memory.Limit, *r.Memory.Swap
		}
		if r.CPU != nil {
			quota = *r.CPU.Quota
			if *r.CPU.Period != 100_000 {
				t.Errorf("%+v: period = %d µs, want 100000", tt.limits, *r.CPU.Period)
			}
		}
		if r.Pids != nil {
			pids = *r.Pids.Limit
		}
		if memory != tt.memory || swap != tt.swap || quota != tt.quota || pids != tt.pids {
			t.Errorf("%+v: memory %d, with swap %d, quota %d, pids %d; want %+v", tt.limits, memory, swap, quota, pids, tt)
		}
		cgroups.NoSwap(r)
		if r.Memory != nil && *r.Memory.Swap != tt.memory {
			t.Errorf("%+v: NoSwap leaves %d, want %d", tt.limits, *r.Memory.Swap, tt.memory)
		}
	}
}

func TestNonsensicalLimitsAreErrLimit(t *testing.T) {
	for _, limits := range []cgroups.Limits{
		{Memory: "lots"}, {Memory: "-64m"}, {Memory: "64x"}, {Memory: "1k"}, {Memory: "6291455"}, {Memory: " "}, {Memory: "1e400"},
		{CPUs: "half"}, {CPUs: "-1"}, {CPUs: "NaN"}, {CPUs: "Inf"}, {CPUs: "0.001"}, {CPUs: "100000"}, {CPUs: "0,5"}, {CPUs: " "},
		{Pids: -2}, {Pids: math.MinInt64},
	} {
		if r, err := limits.Resources(); !errors.Is(err, cgroups.ErrLimit) {
			t.Errorf("%+v: %v, %v; want ErrLimit", limits, r, err)
		}
	}
}
