//go:build linux

package limits_test

import (
	"errors"
	"math"
	"testing"

	"gocker/step06-cgroups/limits"
)

func TestLimitsAreReadAsDockerReadsThem(t *testing.T) {
	// 0: the specification does not name it.
	for _, tt := range []struct {
		limits              limits.Limits
		memory, quota, pids int64
	}{
		{limits.Limits{}, 0, 0, 0},
		{limits.Limits{Memory: "0", CPUs: "0", Pids: -1}, 0, 0, 0},
		{limits.Limits{Memory: "6m"}, 6 << 20, 0, 0},
		{limits.Limits{Memory: "64M"}, 64 << 20, 0, 0},
		{limits.Limits{Memory: "1.5g"}, 3 << 29, 0, 0},
		{limits.Limits{Memory: "8388608"}, 8 << 20, 0, 0},
		{limits.Limits{Memory: "8192k"}, 8 << 20, 0, 0},
		{limits.Limits{CPUs: "0.5"}, 0, 50_000, 0},
		{limits.Limits{CPUs: "1"}, 0, 100_000, 0},
		{limits.Limits{CPUs: ".01"}, 0, 1_000, 0},
		{limits.Limits{Pids: 1}, 0, 0, 1},
	} {
		r, err := tt.limits.Resources()
		if err != nil {
			t.Errorf("%+v: %v", tt.limits, err)
			continue
		}
		var memory, quota, pids int64
		if r.Memory != nil {
			if memory = *r.Memory.Limit; *r.Memory.Swap != memory {
				t.Errorf("%+v: memory %d, with swap %d; want no swap", tt.limits, memory, *r.Memory.Swap)
			}
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
		if memory != tt.memory || quota != tt.quota || pids != tt.pids {
			t.Errorf("%+v: memory %d, quota %d, pids %d; want %+v", tt.limits, memory, quota, pids, tt)
		}
	}
}

func TestNonsensicalLimitsAreErrLimit(t *testing.T) {
	for _, l := range []limits.Limits{
		{Memory: "lots"}, {Memory: "-64m"}, {Memory: "64x"}, {Memory: "1k"}, {Memory: "6291455"}, {Memory: " "}, {Memory: "1e400"},
		{CPUs: "half"}, {CPUs: "-1"}, {CPUs: "NaN"}, {CPUs: "Inf"}, {CPUs: "0.001"}, {CPUs: "100000"}, {CPUs: "0,5"}, {CPUs: " "},
		{Pids: -2}, {Pids: math.MinInt64},
	} {
		if r, err := l.Resources(); !errors.Is(err, limits.ErrLimit) {
			t.Errorf("%+v: %v, %v; want ErrLimit", l, r, err)
		}
	}
}
