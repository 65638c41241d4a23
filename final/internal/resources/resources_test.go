//go:build linux

package resources_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/final/internal/resources"
	"gocker/step01-pull/shared/testenv"
	"gocker/step06-cgroups/cgroups"
	"gocker/step06-cgroups/cgrouptest"
	"gocker/step06-cgroups/counters"
	"gocker/step06-cgroups/limits"
)

func TestMain(m *testing.M) { cgrouptest.Main(m, nil) }

// make makes a cgroup with these limits, and proves at the end that nothing of it is left.
func make(t testing.TB, l resources.Limits) cgroups.Cgroup {
	t.Helper()
	r, err := l.Resources()
	if err != nil {
		t.Fatal(err)
	}
	cg := cgrouptest.Cgroup(t)
	if err := resources.Set(cg, r); err != nil {
		t.Fatal(err)
	}
	return cg
}

func TestTheKernelHasEveryLimit(t *testing.T) {
	for _, tt := range []struct {
		limits                           resources.Limits
		v1File, v1Value, v2File, v2Value string
	}{
		{resources.Limits{Limits: limits.Limits{Memory: "64m"}}, "memory.limit_in_bytes", "67108864", "memory.max", "67108864"},
		{resources.Limits{MemoryReservation: "32m"}, "memory.soft_limit_in_bytes", "33554432", "memory.low", "33554432"},
		{resources.Limits{Limits: limits.Limits{CPUs: "0.5"}}, "cpu.cfs_quota_us", "50000", "cpu.max", "50000 100000"},
		{resources.Limits{CPUPeriod: 50_000, CPUQuota: 20_000}, "cpu.cfs_quota_us", "20000", "cpu.max", "20000 50000"},
		{resources.Limits{CPUPeriod: 50_000}, "cpu.cfs_period_us", "50000", "cpu.max", "max 50000"},
		{resources.Limits{CPUShares: 2}, "cpu.shares", "2", "cpu.weight", "1"},
		{resources.Limits{CPUShares: 1024}, "cpu.shares", "1024", "cpu.weight", "100"},
		{resources.Limits{CPUShares: 262144}, "cpu.shares", "262144", "cpu.weight", "10000"},
		{resources.Limits{CPUSetCPUs: "0"}, "cpuset.cpus", "0", "cpuset.cpus", "0"},
		{resources.Limits{CPUSetMems: "0"}, "cpuset.mems", "0", "cpuset.mems", "0"},
		{resources.Limits{Limits: limits.Limits{Pids: 7}}, "pids.max", "7", "pids.max", "7"},
	} {
		t.Run(tt.v1File+" "+tt.v1Value, func(t *testing.T) {
			cg := make(t, tt.limits)
			if got, want := cgrouptest.File(t, cg, tt.v2File, tt.v1File), cg.Word(tt.v2Value, tt.v1Value); got != want {
				t.Errorf("%+v: %s = %q, want %q", tt.limits, cg.Word(tt.v2File, tt.v1File), got, want)
			}
			cgrouptest.Start(t, "true").Begin(t, cgroups.Paths(cg)...) // and a process can be in there
		})
	}
}

func TestTheKernelHasTheRatesOfADisk(t *testing.T) {
	testenv.NeedRoot(t)
	d := cgrouptest.Disk(t)
	cg := make(t, resources.Limits{
		ReadBPS: []string{d + ":1m"}, WriteBPS: []string{d + ":2m"}, ReadIOPS: []string{d + ":30"}, WriteIOPS: []string{d + ":40"},
	})
	for _, want := range [][4]string{
		{"io.max", " rbps=1048576 wbps=2097152 riops=30 wiops=40", "blkio.throttle.read_bps_device", " 1048576"},
		{"io.max", " riops=30 wiops=40", "blkio.throttle.write_bps_device", " 2097152"},
		{"io.max", " riops=30 wiops=40", "blkio.throttle.read_iops_device", " 30"},
		{"io.max", " wiops=40", "blkio.throttle.write_iops_device", " 40"},
	} {
		if got, end := cgrouptest.File(t, cg, want[0], want[2]), cg.Word(want[1], want[3]); !strings.HasSuffix(got, end) {
			t.Errorf("%s = %q, want …%q", cg.Word(want[0], want[2]), got, end)
		}
	}
}

func TestALimitThatTheKernelLacksIsNamed(t *testing.T) {
	cg := cgrouptest.Cgroup(t)
	weight := uint16(100)
	err := resources.Set(cg, &specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: &weight}})
	if err != nil && (!errors.Is(err, cgroups.ErrUnsupported) || !strings.Contains(err.Error(), "block IO weight")) { // some kernels have it
		t.Errorf("Set = %v, want ErrUnsupported about block IO weight", err)
	}
}

func TestACpusetIsMadeBelowAnotherOne(t *testing.T) {
	testenv.NeedRoot(t)
	parent := "/test-cpuset-" + filepath.Base(os.TempDir())
	cg, err := cgroups.New(nil, parent+"/inner/gocker-"+cgrouptest.ID(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := resources.Set(cg, &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "0"}}); err != nil {
		t.Error(err)
	}
	paths := cgroups.Paths(cg)
	cgrouptest.Start(t, "sleep").Begin(t, paths...)
	if err := cgroups.Remove(cg); err != nil {
		t.Error(err)
	}
	for _, path := range paths {
		if err := errors.Join(os.Remove(filepath.Dir(path)), os.Remove(filepath.Dir(filepath.Dir(path)))); err != nil {
			t.Error(err)
		}
	}
}

// thawAtEnd is for a test that freezes probes: with v1 they would not end.
func thawAtEnd(t testing.TB, cg cgroups.Cgroup) {
	t.Cleanup(func() {
		if resources.Frozen(cg) {
			resources.Thaw(cg)
		}
	})
}

func TestFrozenProcessesStandStill(t *testing.T) {
	cg := make(t, resources.Limits{})
	cgrouptest.Start(t, "spin").Begin(t, cgroups.Paths(cg)...)
	thawAtEnd(t, cg)
	for range 2 { // a second time, too
		if err := resources.Freeze(cg); err != nil {
			t.Fatal(err)
		}
		if !resources.Frozen(cg) {
			t.Error("Frozen = false after Freeze")
		}
		// The last moments before may be counted a moment later. One that runs would count for ever.
		var before time.Duration
		for deadline := time.Now().Add(time.Minute); counters.Read(cg).CPU != before; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("frozen, it still uses processor time")
			}
			before = counters.Read(cg).CPU
		}
		if err := resources.Thaw(cg); err != nil || resources.Frozen(cg) {
			t.Fatalf("Thaw = %v, Frozen = %v", err, resources.Frozen(cg))
		}
		for deadline := time.Now().Add(time.Minute); counters.Read(cg).CPU == before; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("thawed, it uses no processor time")
			}
		}
	}
}

func TestNoneFleesTheFreezerByForking(t *testing.T) {
	cg := make(t, resources.Limits{})
	storm := cgrouptest.Start(t, "fork")
	storm.Begin(t, cgroups.Paths(cg)...)
	thawAtEnd(t, cg)
	if err := resources.Freeze(cg); err != nil {
		t.Fatal(err)
	}
	before, err := resources.Pids(cg)
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range before {
		raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
		if err == nil && strings.Contains(string(raw), "State:\tR") {
			t.Errorf("process %d runs:\n%s", pid, raw)
		}
	}
	if after, err := resources.Pids(cg); err != nil || len(after) != len(before) {
		t.Errorf("there were %d processes, and are %d, %v", len(before), len(after), err)
	}
}

func TestRemoveEndsWhatIsFrozen(t *testing.T) {
	cg := make(t, resources.Limits{})
	cgrouptest.Start(t, "sleep").Begin(t, cgroups.Paths(cg)...)
	thawAtEnd(t, cg)
	if err := resources.Freeze(cg); err != nil {
		t.Fatal(err)
	}
	if err := cgroups.Remove(cg); err != nil { // a second time, make's cleanup does
		t.Error(err)
	}
}

func TestUpdateChangesWhatRuns(t *testing.T) {
	cg := make(t, resources.Limits{Limits: limits.Limits{Memory: "32m", Pids: 30}})
	p := cgrouptest.Start(t, "sleep")
	p.Begin(t, cgroups.Paths(cg)...)
	r, err := resources.Limits{Limits: limits.Limits{Memory: "32m", Pids: 30}}.Resources()
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []resources.Limits{
		{Limits: limits.Limits{Memory: "256m"}, MemorySwap: "512m"}, // more than memory and swap were
		{Limits: limits.Limits{Memory: "16m"}, MemorySwap: "16m"},   // and less
		{Limits: limits.Limits{CPUs: "0.5"}, CPUSetCPUs: "0"},       // what it had not
		{Limits: limits.Limits{Pids: -1}},
	} {
		if err := change.Apply(r); err != nil {
			t.Fatal(err)
		}
		if err := resources.Update(cg, r); err != nil {
			t.Errorf("Update to %+v = %v", change, err)
		}
	}
	for _, want := range [][4]string{
		{"memory.max", "16777216", "memory.limit_in_bytes", "16777216"},
		{"cpu.max", "50000 100000", "cpu.cfs_quota_us", "50000"},
		{"cpuset.cpus", "0", "cpuset.cpus", "0"},
		{"pids.max", "max", "pids.max", "max"},
	} {
		if got := cgrouptest.File(t, cg, want[0], want[2]); got != cg.Word(want[1], want[3]) {
			t.Errorf("%s = %q, want %q", cg.Word(want[0], want[2]), got, cg.Word(want[1], want[3]))
		}
	}
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.Process.Pid), "status"))
	if err != nil || !strings.Contains(string(raw), "Cpus_allowed_list:\t0\n") {
		t.Errorf("the process may run on others than processor 0:\n%s", raw)
	}
}
