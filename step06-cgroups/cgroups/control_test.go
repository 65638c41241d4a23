//go:build linux

package cgroups_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step01-pull/shared/testenv"
	"gocker/step04-overlay/overlay"
	"gocker/step06-cgroups/cgroups"
)

// file reads one of the kernel's files, in whichever folder it is.
func file(t testing.TB, cg cgroups.Cgroup, name string) string {
	t.Helper()
	for _, path := range cg.Paths() {
		if raw, err := os.ReadFile(filepath.Join(path, name)); err == nil {
			return strings.TrimSpace(string(raw))
		}
	}
	t.Fatalf("no folder of %q has a file %s", cg.Paths(), name)
	return ""
}

func TestTheKernelHasEveryLimit(t *testing.T) {
	for _, tt := range []struct {
		limits                           cgroups.Limits
		v1File, v1Value, v2File, v2Value string
	}{
		{cgroups.Limits{Memory: "64m"}, "memory.limit_in_bytes", "67108864", "memory.max", "67108864"},
		{cgroups.Limits{MemoryReservation: "32m"}, "memory.soft_limit_in_bytes", "33554432", "memory.low", "33554432"},
		{cgroups.Limits{CPUs: "0.5"}, "cpu.cfs_quota_us", "50000", "cpu.max", "50000 100000"},
		{cgroups.Limits{CPUPeriod: 50_000, CPUQuota: 20_000}, "cpu.cfs_quota_us", "20000", "cpu.max", "20000 50000"},
		{cgroups.Limits{CPUPeriod: 50_000}, "cpu.cfs_period_us", "50000", "cpu.max", "max 50000"},
		{cgroups.Limits{CPUShares: 2}, "cpu.shares", "2", "cpu.weight", "1"},
		{cgroups.Limits{CPUShares: 1024}, "cpu.shares", "1024", "cpu.weight", "100"},
		{cgroups.Limits{CPUShares: 262144}, "cpu.shares", "262144", "cpu.weight", "10000"},
		{cgroups.Limits{CPUSetCPUs: "0"}, "cpuset.cpus", "0", "cpuset.cpus", "0"},
		{cgroups.Limits{CPUSetMems: "0"}, "cpuset.mems", "0", "cpuset.mems", "0"},
		{cgroups.Limits{Pids: 7}, "pids.max", "7", "pids.max", "7"},
	} {
		t.Run(tt.v1File+" "+tt.v1Value, func(t *testing.T) {
			cg := make(t, tt.limits)
			name, want := inVersion(cg, tt.v1File, tt.v2File), inVersion(cg, tt.v1Value, tt.v2Value)
			if got := file(t, cg, name); got != want {
				t.Errorf("%+v: %s = %q, want %q", tt.limits, name, got, want)
			}
			start(t, "true").begin(t, cg) // and a process can be in there
		})
	}
}

// disk finds a block device of this machine that can be opened.
func disk(t testing.TB) string {
	t.Helper()
	disks, err := filepath.Glob("/sys/block/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range disks {
		name := filepath.Join("/dev", filepath.Base(d))
		if f, err := os.Open(name); err == nil {
			f.Close()
			return name
		}
	}
	t.Fatalf("none of %q can be opened", disks)
	return ""
}

func TestTheKernelHasTheRatesOfADisk(t *testing.T) {
	testenv.NeedRoot(t)
	d := disk(t)
	cg := make(t, cgroups.Limits{
		ReadBPS: []string{d + ":1m"}, WriteBPS: []string{d + ":2m"}, ReadIOPS: []string{d + ":30"}, WriteIOPS: []string{d + ":40"},
	})
	files := map[string]string{"io.max": " rbps=1048576 wbps=2097152 riops=30 wiops=40"}
	if cg.Version() == "v1" {
		files = map[string]string{
			"blkio.throttle.read_bps_device": " 1048576", "blkio.throttle.write_bps_device": " 2097152",
			"blkio.throttle.read_iops_device": " 30", "blkio.throttle.write_iops_device": " 40",
		}
	}
	for name, want := range files {
		if got := file(t, cg, name); !strings.HasSuffix(got, want) {
			t.Errorf("%s = %q, want …%q", name, got, want)
		}
	}
}

func TestALimitThatTheKernelLacksIsNamed(t *testing.T) {
	testenv.NeedRoot(t)
	weight := uint16(100)
	cg, err := cgroups.New("gocker-"+id(t), &specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: &weight}}, nil)
	if err == nil { // this kernel has it
		if err := cgroups.Remove(cg, nil); err != nil {
			t.Error(err)
		}
		return
	}
	if !errors.Is(err, cgroups.ErrUnsupported) || !strings.Contains(err.Error(), "block IO weight") {
		t.Errorf("New = %v, want ErrUnsupported about block IO weight", err)
	}
	if left := find(t, id(t)); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// thawAtEnd is for a test that freezes probes: with v1 they would not end.
func thawAtEnd(t testing.TB, cg cgroups.Cgroup) {
	t.Cleanup(func() {
		if cg.Frozen() {
			cg.Thaw()
		}
	})
}

func TestFrozenProcessesStandStill(t *testing.T) {
	cg := make(t, cgroups.Limits{})
	start(t, "spin").begin(t, cg)
	thawAtEnd(t, cg)
	for range 2 { // a second time, too
		if err := cg.Freeze(); err != nil {
			t.Fatal(err)
		}
		if !cg.Frozen() {
			t.Error("Frozen = false after Freeze")
		}
		// The last moments before may be counted a moment later. One that runs would count for ever.
		var before time.Duration
		for deadline := time.Now().Add(time.Minute); stats(t, cg).CPU != before; time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("frozen, it still uses processor time")
			}
			before = stats(t, cg).CPU
		}
		if err := cg.Thaw(); err != nil || cg.Frozen() {
			t.Fatalf("Thaw = %v, Frozen = %v", err, cg.Frozen())
		}
		for deadline := time.Now().Add(time.Minute); stats(t, cg).CPU == before; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("thawed, it uses no processor time")
			}
		}
	}
}

func TestNoneFleesTheFreezerByForking(t *testing.T) {
	cg := make(t, cgroups.Limits{})
	storm := start(t, "fork")
	storm.begin(t, cg)
	thawAtEnd(t, cg)
	if err := cg.Freeze(); err != nil {
		t.Fatal(err)
	}
	before, err := cg.Pids()
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range before {
		raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
		if err == nil && strings.Contains(string(raw), "State:\tR") {
			t.Errorf("process %d runs:\n%s", pid, raw)
		}
	}
	if after, err := cg.Pids(); err != nil || len(after) != len(before) {
		t.Errorf("there were %d processes, and are %d, %v", len(before), len(after), err)
	}
}

func TestRemoveEndsWhatIsFrozen(t *testing.T) {
	cg := make(t, cgroups.Limits{})
	start(t, "sleep").begin(t, cg)
	thawAtEnd(t, cg)
	if err := cg.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := cgroups.Remove(cg, nil); err != nil { // a second time, make's cleanup does
		t.Error(err)
	}
}

func TestPidsAreThoseOfCgroupsInsideToo(t *testing.T) {
	cg := make(t, cgroups.Limits{})
	outer, inner := start(t, "sleep"), start(t, "sleep")
	outer.begin(t, cg)
	inner.begin(t, nil)
	for _, path := range cg.Paths() {
		inside := filepath.Join(path, "a")
		if err := os.Mkdir(inside, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(inside, "cgroup.procs"), []byte(strconv.Itoa(inner.Process.Pid)), 0); err != nil {
			t.Fatal(err)
		}
	}
	pids, err := cg.Pids()
	slices.Sort(pids)
	want := []int{outer.Process.Pid, inner.Process.Pid}
	slices.Sort(want)
	if err != nil || !slices.Equal(pids, want) {
		t.Errorf("Pids = %v, %v; want %v", pids, err, want)
	}
}

func TestUpdateChangesWhatRuns(t *testing.T) {
	cg := make(t, cgroups.Limits{Memory: "32m", Pids: 30})
	p := start(t, "sleep")
	p.begin(t, cg)
	r, err := cgroups.Limits{Memory: "32m", Pids: 30}.Resources()
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []cgroups.Limits{
		{Memory: "256m", MemorySwap: "512m"}, // more than memory and swap were
		{Memory: "16m", MemorySwap: "16m"},   // and less
		{CPUs: "0.5", CPUSetCPUs: "0"},       // what it had not
		{Pids: -1},
	} {
		if err := change.Apply(r); err != nil {
			t.Fatal(err)
		}
		if err := cg.Update(r); err != nil {
			t.Errorf("Update to %+v = %v", change, err)
		}
	}
	for name, want := range map[string]string{
		inVersion(cg, "memory.limit_in_bytes", "memory.max"): "16777216",
		inVersion(cg, "cpu.cfs_quota_us", "cpu.max"):         inVersion(cg, "50000", "50000 100000"),
		"cpuset.cpus": "0", "pids.max": "max",
	} {
		if got := file(t, cg, name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.Process.Pid), "status"))
	if err != nil || !strings.Contains(string(raw), "Cpus_allowed_list:\t0\n") {
		t.Errorf("the process may run on others than processor 0:\n%s", raw)
	}
}

func TestACgroupIsFoundAgainByItsRecord(t *testing.T) {
	cg := make(t, cgroups.Limits{Pids: 50})
	p := start(t, "hog", "8", "stay")
	p.begin(t, cg)
	f := &overlay.FS{Dir: t.TempDir()}
	if err := cgroups.Record(f, cg); err != nil {
		t.Fatal(err)
	}
	again, err := cgroups.OpenRecorded(f.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(again.Paths(), cg.Paths()) || again.Version() != cg.Version() {
		t.Errorf("OpenRecorded: %s %q, want %s %q", again.Version(), again.Paths(), cg.Version(), cg.Paths())
	}
	if pids, err := again.Pids(); err != nil || !slices.Equal(pids, []int{p.Process.Pid}) {
		t.Errorf("Pids = %v, %v; want %d", pids, err, p.Process.Pid)
	}
	if _, err := p.stdout.ReadString('\n'); err != nil { // it has its memory
		t.Fatal(err)
	}
	if s := stats(t, again); s.Pids == 0 || s.Memory < 8<<20 || s.MemoryLimit != 0 && s.MemoryLimit < 1<<40 {
		t.Errorf("Stats = %+v, want processes, 8 MiB, and no limit", s)
	}
	// What one of them makes later, the other removes.
	thawAtEnd(t, cg)
	if err := again.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := cgroups.Remove(cg, nil); err != nil {
		t.Fatal(err)
	}
	if left := find(t, id(t)); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestACgroupIsMadeBelowAnotherOne(t *testing.T) {
	testenv.NeedRoot(t)
	parent := "/test-parent-" + strconv.Itoa(os.Getpid())
	cg, err := cgroups.New(parent+"/inner/gocker-"+id(t), &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "0"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	start(t, "sleep").begin(t, cg)
	paths := cg.Paths()
	if err := cgroups.Remove(cg, nil); err != nil {
		t.Error(err)
	}
	for _, path := range paths {
		if !strings.HasSuffix(path, parent+"/inner/gocker-"+id(t)) {
			t.Errorf("made %q, want it below %q", path, parent)
		}
		if err := errors.Join(os.Remove(filepath.Dir(path)), os.Remove(filepath.Dir(filepath.Dir(path)))); err != nil {
			t.Error(err)
		}
	}
}
