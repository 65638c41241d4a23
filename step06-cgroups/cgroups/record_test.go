//go:build linux

package cgroups_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gocker/step01-pull/shared/testenv"
	"gocker/step04-overlay/overlay"
	"gocker/step06-cgroups/cgroups"
	"gocker/step06-cgroups/cgrouptest"
	"gocker/step06-cgroups/counters"
	"gocker/step06-cgroups/limits"
)

func TestTheKernelHasEveryLimit(t *testing.T) {
	testenv.NeedMachinesRoot(t, "no cgroup is delegated to the user")
	for _, tt := range []struct {
		limits          limits.Limits
		v2File, v2Value string
		v1File, v1Value string
	}{
		{limits.Limits{Memory: "64m"}, "memory.max", "67108864", "memory.limit_in_bytes", "67108864"},
		{limits.Limits{CPUs: "0.5"}, "cpu.max", "50000 100000", "cpu.cfs_quota_us", "50000"},
		{limits.Limits{Pids: 7}, "pids.max", "7", "pids.max", "7"},
	} {
		t.Run(tt.v2File, func(t *testing.T) {
			cg := make(t, tt.limits)
			if got, want := cgrouptest.File(t, cg, tt.v2File, tt.v1File), cg.Word(tt.v2Value, tt.v1Value); got != want {
				t.Errorf("%+v: %s = %q, want %q", tt.limits, cg.Word(tt.v2File, tt.v1File), got, want)
			}
			cgrouptest.Start(t, "true").Begin(t, cgroups.Paths(cg)...) // and a process can be in there
		})
	}
}

func TestPidsAreThoseOfCgroupsInsideToo(t *testing.T) {
	testenv.NeedMachinesRoot(t, "no cgroup is delegated to the user")
	cg := make(t, limits.Limits{})
	outer, inner := cgrouptest.Start(t, "sleep"), cgrouptest.Start(t, "sleep")
	outer.Begin(t, cgroups.Paths(cg)...)
	inner.Begin(t)
	for _, path := range cgroups.Paths(cg) {
		inside := filepath.Join(path, "a")
		if err := os.Mkdir(inside, 0o755); err != nil {
			t.Fatal(err)
		}
		inner.Move(t, inside)
	}
	pids, err := cgroups.Pids(filepath.Dir(cg.Path("pids.max")))
	slices.Sort(pids)
	want := []int{outer.Process.Pid, inner.Process.Pid}
	slices.Sort(want)
	if err != nil || !slices.Equal(pids, want) {
		t.Errorf("Pids = %v, %v; want %v", pids, err, want)
	}
}

func TestACgroupIsFoundAgainByItsRecord(t *testing.T) {
	testenv.NeedMachinesRoot(t, "no cgroup is delegated to the user")
	cg := make(t, limits.Limits{Pids: 50})
	p := cgrouptest.Start(t, "hog", "8", "stay")
	p.Begin(t, cgroups.Paths(cg)...)
	f := &overlay.FS{Dir: t.TempDir()}
	if err := cgroups.Record(f, cg); err != nil {
		t.Fatal(err)
	}
	again, err := cgroups.OpenRecorded(f.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if again.String() != cg.String() {
		t.Errorf("OpenRecorded: %s, want %s", again, cg)
	}
	if pids, err := cgroups.Pids(filepath.Dir(again.Path("pids.max"))); err != nil || !slices.Equal(pids, []int{p.Process.Pid}) {
		t.Errorf("Pids = %v, %v; want %d", pids, err, p.Process.Pid)
	}
	if _, err := p.Stdout.ReadString('\n'); err != nil { // it has its memory
		t.Fatal(err)
	}
	if s := counters.Read(again); s.Pids == 0 || s.Memory < 8<<20 || s.MemoryLimit != 0 && s.MemoryLimit < 1<<40 {
		t.Errorf("Stats = %+v, want processes, 8 MiB, and no limit", s)
	}
	// What one of them makes later, the other removes.
	if later := cg.Word("", "freezer"); later != "" {
		if err := again.Enable(later); err != nil {
			t.Fatal(err)
		}
	}
	if err := cgroups.Remove(cg); err != nil {
		t.Fatal(err)
	}
	if left := cgrouptest.Find(t, cgrouptest.ID(t)); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestACgroupIsMadeBelowAnotherOne(t *testing.T) {
	testenv.NeedMachinesRoot(t, "no cgroup is delegated to the user")
	parent := "/test-parent-" + filepath.Base(os.TempDir())
	cg, err := cgroups.New(nil, parent+"/inner/gocker-"+cgrouptest.ID(t))
	if err != nil {
		t.Fatal(err)
	}
	paths := cgroups.Paths(cg)
	cgrouptest.Start(t, "sleep").Begin(t, paths...)
	if err := cgroups.Remove(cg); err != nil {
		t.Error(err)
	}
	for _, path := range paths {
		if !strings.HasSuffix(path, parent+"/inner/gocker-"+cgrouptest.ID(t)) {
			t.Errorf("made %q, want it below %q", path, parent)
		}
		if err := errors.Join(os.Remove(filepath.Dir(path)), os.Remove(filepath.Dir(filepath.Dir(path)))); err != nil {
			t.Error(err)
		}
	}
}
