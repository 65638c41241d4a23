//go:build linux

package resources_test

import (
	"os"
	"path/filepath"
	"testing"

	"gocker/final/internal/resources"
	"gocker/step01-pull/shared/testenv"
	"gocker/step06-cgroups/cgroups"
	"gocker/step06-cgroups/cgrouptest"
	"gocker/step06-cgroups/limits"
)

func TestLimitsThatHoldForACgroupAreItsOwnAndThoseAbove(t *testing.T) {
	testenv.NeedRoot(t)
	parent := "/gocker-above-" + cgrouptest.ID(t)
	for _, made := range []struct {
		name   string
		limits limits.Limits
	}{
		{parent, limits.Limits{Memory: "64m", Pids: 20}},
		{parent + "/between", limits.Limits{}},
		{parent + "/between/gocker-" + cgrouptest.ID(t), limits.Limits{Memory: "128m", Pids: 50}},
	} {
		r, err := made.limits.Resources()
		if err != nil {
			t.Fatal(err)
		}
		cg, err := cgroups.New(nil, made.name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := cgroups.Remove(cg); err != nil {
				t.Error(err)
			}
		})
		if err := cgroups.Set(cg, cgroups.Settings(r)); err != nil {
			t.Fatal(err)
		}
		if made.limits.Pids != 50 {
			continue
		}
		for controller, want := range map[string][2]uint64{"memory": {128 << 20, 64 << 20}, "pids": {50, 20}} {
			limits := resources.LimitsOf(cg, controller)
			if len(limits) < 2 || limits[0].Value != want[0] || limits[1].Value != want[1] || filepath.Base(limits[1].Dir) != filepath.Base(parent) {
				t.Errorf("LimitsOf(%s) = %+v, want its own of %d and one of %d in %s", controller, limits, want[0], want[1], parent)
			}
			if limits[0].Left > limits[0].Value {
				t.Errorf("LimitsOf(%s): %d of %d are left", controller, limits[0].Left, limits[0].Value)
			}
		}
	}
}

func TestALimitOfProcessesKnowsWhetherItRefusedOne(t *testing.T) {
	cg := make(t, resources.Limits{Limits: limits.Limits{Pids: 30}})
	limit := resources.LimitsOf(cg, "pids")[0]
	if refused, known := limit.RefusedForks(); refused {
		t.Errorf("RefusedForks = %t, %t before there was any process", refused, known)
	}
	_, err := os.Stat(filepath.Join(limit.Dir, "pids.events.local"))
	if _, known := limit.RefusedForks(); known != (err == nil) {
		t.Errorf("RefusedForks: known = %t, and the kernel's file: %v", known, err)
	}
}
