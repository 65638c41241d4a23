//go:build linux

package cgroups_test

import (
	"encoding/json"
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

func TestEveryLimitHasItsWordInTheSpecification(t *testing.T) {
	for _, tt := range []struct {
		limits cgroups.Limits
		want   string
	}{
		{cgroups.Limits{Memory: "8m", MemorySwap: "-1"}, `{"memory":{"limit":8388608,"swap":-1}}`},
		{cgroups.Limits{Memory: "8m", MemorySwap: "8m", MemoryReservation: "7m"}, `{"memory":{"limit":8388608,"reservation":7340032,"swap":8388608}}`},
		{cgroups.Limits{MemoryReservation: "7m"}, `{"memory":{"reservation":7340032}}`},
		{cgroups.Limits{CPUShares: 512}, `{"cpu":{"shares":512}}`},
		{cgroups.Limits{CPUPeriod: 50_000, CPUQuota: -1}, `{"cpu":{"quota":-1,"period":50000}}`},
		{cgroups.Limits{CPUSetCPUs: "0", CPUSetMems: "0"}, `{"cpu":{"cpus":"0","mems":"0"}}`},
		{cgroups.Limits{BlkioWeight: 500}, `{"blockIO":{"weight":500}}`},
	} {
		r, err := tt.limits.Resources()
		if got, _ := json.Marshal(r); err != nil || string(got) != tt.want {
			t.Errorf("%+v: %s, %v; want %s", tt.limits, got, err, tt.want)
		}
	}
}

func TestApplyLeavesWhatIsNotNamed(t *testing.T) {
	r, err := cgroups.Limits{Memory: "64m", CPUs: "0.5", Pids: 5, BlkioWeight: 500}.Resources()
	if err != nil {
		t.Fatal(err)
	}
	before, _ := json.Marshal(r)
	if err := (cgroups.Limits{}).Apply(r); err != nil {
		t.Error(err)
	}
	if after, _ := json.Marshal(r); string(after) != string(before) {
		t.Errorf("Apply of nothing made %s of %s", after, before)
	}
	if err := (cgroups.Limits{Memory: "128m", Pids: -1}).Apply(r); err != nil { // as much as memory and swap were
		t.Error(err)
	}
	if *r.Memory.Limit != 128<<20 || *r.Memory.Swap != 128<<20 || *r.Pids.Limit != -1 || *r.CPU.Quota != 50_000 {
		after, _ := json.Marshal(r)
		t.Errorf("Apply made %s", after)
	}
	if err := (cgroups.Limits{Memory: "256m"}).Apply(r); !errors.Is(err, cgroups.ErrLimit) {
		t.Errorf("more memory than memory and swap together: %v, want ErrLimit", err)
	}
}

func TestNonsensicalLimitsAreErrLimit(t *testing.T) {
	for _, limits := range []cgroups.Limits{
		{Memory: "lots"}, {Memory: "-64m"}, {Memory: "64x"}, {Memory: "1k"}, {Memory: "6291455"}, {Memory: " "}, {Memory: "1e400"},
		{CPUs: "half"}, {CPUs: "-1"}, {CPUs: "NaN"}, {CPUs: "Inf"}, {CPUs: "0.001"}, {CPUs: "100000"}, {CPUs: "0,5"}, {CPUs: " "},
		{Pids: -2}, {Pids: math.MinInt64},
		{MemorySwap: "64m"}, {Memory: "64m", MemorySwap: "32m"}, {Memory: "64m", MemorySwap: "-2"}, {Memory: "64m", MemorySwap: "x"},
		{MemoryReservation: "1m"}, {Memory: "64m", MemoryReservation: "65m"},
		{CPUPeriod: 999}, {CPUPeriod: 1_000_001}, {CPUPeriod: -1}, {CPUQuota: 999}, {CPUQuota: -2}, {CPUs: "0.5", CPUQuota: 5000}, {CPUs: "0.5", CPUPeriod: 5000},
		{CPUSetCPUs: "x"}, {CPUSetCPUs: "0-"}, {CPUSetCPUs: "1-0"}, {CPUSetCPUs: "0,"}, {CPUSetCPUs: "-1"}, {CPUSetCPUs: "0-65535"}, {CPUSetCPUs: "99999999999"}, {CPUSetMems: "63"},
		{BlkioWeight: 9}, {BlkioWeight: 1001},
		{ReadBPS: []string{"/dev/null:1m"}}, {ReadBPS: []string{"/dev/null"}}, {WriteBPS: []string{"/no-such:1m"}}, {ReadIOPS: []string{":"}}, {WriteIOPS: []string{"/dev/null:1m"}},
	} {
		if r, err := limits.Resources(); !errors.Is(err, cgroups.ErrLimit) {
			t.Errorf("%+v: %v, %v; want ErrLimit", limits, r, err)
		}
	}
}
