//go:build linux

package resources_test

import (
	"encoding/json"
	"errors"
	"math"
	"testing"

	"gocker/final/internal/resources"
	"gocker/step06-cgroups/limits"
)

func TestEveryLimitHasItsWordInTheSpecification(t *testing.T) {
	for _, tt := range []struct {
		limits resources.Limits
		want   string
	}{
		{resources.Limits{Limits: limits.Limits{Memory: "8m"}, MemorySwap: "-1"}, `{"memory":{"limit":8388608,"swap":-1}}`},
		{resources.Limits{Limits: limits.Limits{Memory: "8m"}, MemorySwap: "8m", MemoryReservation: "7m"}, `{"memory":{"limit":8388608,"reservation":7340032,"swap":8388608}}`},
		{resources.Limits{MemoryReservation: "7m"}, `{"memory":{"reservation":7340032}}`},
		{resources.Limits{CPUShares: 512}, `{"cpu":{"shares":512}}`},
		{resources.Limits{CPUPeriod: 50_000, CPUQuota: -1}, `{"cpu":{"quota":-1,"period":50000}}`},
		{resources.Limits{CPUSetCPUs: "0", CPUSetMems: "0"}, `{"cpu":{"cpus":"0","mems":"0"}}`},
		{resources.Limits{BlkioWeight: 500}, `{"blockIO":{"weight":500}}`},
	} {
		r, err := tt.limits.Resources()
		if got, _ := json.Marshal(r); err != nil || string(got) != tt.want {
			t.Errorf("%+v: %s, %v; want %s", tt.limits, got, err, tt.want)
		}
	}
}

func TestSwapIsAsMuchAsMemoryUnlessItIsNamed(t *testing.T) {
	for memory, want := range map[string]int64{"6m": 12 << 20, "1.5g": 3 << 30, "5000000t": math.MaxInt64} {
		r, err := resources.Limits{Limits: limits.Limits{Memory: memory}}.Resources()
		if err != nil || *r.Memory.Swap != want {
			t.Errorf("%s: %+v, %v; want memory and swap of %d", memory, r.Memory, err, want)
		}
	}
}

func TestApplyLeavesWhatIsNotNamed(t *testing.T) {
	r, err := resources.Limits{Limits: limits.Limits{Memory: "64m", CPUs: "0.5", Pids: 5}, BlkioWeight: 500}.Resources()
	if err != nil {
		t.Fatal(err)
	}
	before, _ := json.Marshal(r)
	if err := (resources.Limits{}).Apply(r); err != nil {
		t.Error(err)
	}
	if after, _ := json.Marshal(r); string(after) != string(before) {
		t.Errorf("Apply of nothing made %s of %s", after, before)
	}
	if err := (resources.Limits{Limits: limits.Limits{Memory: "128m", Pids: -1}}).Apply(r); err != nil { // as much as memory and swap were
		t.Error(err)
	}
	if *r.Memory.Limit != 128<<20 || *r.Memory.Swap != 128<<20 || *r.Pids.Limit != -1 || *r.CPU.Quota != 50_000 {
		after, _ := json.Marshal(r)
		t.Errorf("Apply made %s", after)
	}
	if err := (resources.Limits{Limits: limits.Limits{Memory: "256m"}}).Apply(r); !errors.Is(err, limits.ErrLimit) {
		t.Errorf("more memory than memory and swap together: %v, want ErrLimit", err)
	}
}

func TestNonsensicalLimitsAreErrLimit(t *testing.T) {
	for _, l := range []resources.Limits{
		{Limits: limits.Limits{Memory: "lots"}}, {Limits: limits.Limits{CPUs: "half"}}, {Limits: limits.Limits{Pids: -2}},
		{MemorySwap: "64m"}, {Limits: limits.Limits{Memory: "64m"}, MemorySwap: "32m"}, {Limits: limits.Limits{Memory: "64m"}, MemorySwap: "-2"}, {Limits: limits.Limits{Memory: "64m"}, MemorySwap: "x"},
		{MemoryReservation: "1m"}, {Limits: limits.Limits{Memory: "64m"}, MemoryReservation: "65m"},
		{CPUPeriod: 999}, {CPUPeriod: 1_000_001}, {CPUPeriod: -1}, {CPUQuota: 999}, {CPUQuota: -2}, {Limits: limits.Limits{CPUs: "0.5"}, CPUQuota: 5000}, {Limits: limits.Limits{CPUs: "0.5"}, CPUPeriod: 5000},
		{CPUSetCPUs: "x"}, {CPUSetCPUs: "0-"}, {CPUSetCPUs: "1-0"}, {CPUSetCPUs: "0, "}, {CPUSetCPUs: "-1"}, {CPUSetCPUs: "0-65535"}, {CPUSetCPUs: "99999999999"}, {CPUSetMems: "63"},
		{BlkioWeight: 9}, {BlkioWeight: 1001},
		{ReadBPS: []string{"/dev/null:1m"}}, {ReadBPS: []string{"/dev/null"}}, {WriteBPS: []string{"/no-such:1m"}}, {ReadIOPS: []string{":"}}, {WriteIOPS: []string{"/dev/null:1m"}},
	} {
		if r, err := l.Resources(); !errors.Is(err, limits.ErrLimit) {
			t.Errorf("%+v: %v, %v; want ErrLimit", l, r, err)
		}
	}
}
