//go:build linux

package cgroups_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/testenv"
	"gocker/step03-layers/layers"
	"gocker/step04-overlay/overlay"
	"gocker/step06-cgroups/cgroups"
	"gocker/step06-cgroups/cgrouptest"
	"gocker/step06-cgroups/counters"
	"gocker/step06-cgroups/limits"
)

func TestMain(m *testing.M) {
	cgrouptest.Main(m, map[string]func([]string) error{"new": newCgroup, "own": own, "without": withoutCgroups})
}

// make makes a cgroup with these limits, and proves at the end that nothing of it is left.
func make(t testing.TB, l limits.Limits) cgroups.Cgroup {
	t.Helper()
	r, err := l.Resources()
	if err != nil {
		t.Fatal(err)
	}
	cg := cgrouptest.Cgroup(t)
	if err := cgroups.Set(cg, cgroups.Settings(r)); err != nil {
		t.Fatal(err)
	}
	return cg
}

// kernel finds a number in one of the kernel's files, "memory.max" or "memory.events oom_kill". It is another way than that
// of ReadStats.
func kernel(t testing.TB, cg cgroups.Cgroup, v2, v1 string) uint64 {
	t.Helper()
	name, key, _ := strings.Cut(cg.Word(v2, v1), " ")
	fields := strings.Fields(cgrouptest.File(t, cg, name, name))
	n, err := strconv.ParseUint(fields[slices.Index(fields, key)+1], 10, 64) // without a key the first
	if err != nil {
		t.Fatalf("%s %s: %v", name, key, err)
	}
	return n
}

// newCgroup makes a cgroup and prints where.
func newCgroup(args []string) error {
	cg, err := cgroups.New(nil, "gocker-"+args[0])
	if err != nil {
		return err
	}
	fmt.Println(strings.Join(cgroups.Paths(cg), " "))
	return cgroups.Remove(cg)
}

// A probe stays on its first thread, whose mounts are those of /proc/self: see withoutCgroups.
func init() { runtime.LockOSThread() }

// withoutCgroups makes a cgroup where no cgroup file system is mounted.
func withoutCgroups([]string) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return err
	}
	err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), exec.Command("umount", "--recursive", "--lazy", "/sys/fs/cgroup").Run())
	if err != nil {
		return err
	}
	_, err = cgroups.New(nil, "gocker-none")
	fmt.Print(advice.Print("test", err))
	return nil
}

// own is a gocker with one container. It prints the pid of the container's process and its id, and waits for its end.
func own(args []string) error {
	d := dirs.Dirs{Root: args[0], Run: args[1]}
	img := layers.Image{ID: "0123456789ab", Layers: []layers.Layer{{ChainID: "sha256:" + strings.Repeat("0", 64)}}}
	for _, dir := range append(img.Stack(d), d.Image(img.ID)) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	f, err := overlay.Create(d, img)
	if err != nil {
		return err
	}
	if err := f.Mount(); err != nil {
		return err
	}
	cg, err := cgroups.New(f, "gocker-"+f.ID)
	if err != nil {
		return err
	}
	cmd := exec.Command("/proc/self/exe", "probe", "sleep")
	if err := cmd.Start(); err != nil {
		return err
	}
	for _, path := range cgroups.Paths(cg) {
		if err := os.WriteFile(filepath.Join(path, "cgroup.procs"), []byte(strconv.Itoa(cmd.Process.Pid)), 0); err != nil {
			return err
		}
	}
	fmt.Println(cmd.Process.Pid, strings.Join(cgroups.Paths(cg), " "))
	select {}
}

func TestMemoryHogIsKilled(t *testing.T) {
	testenv.NeedMachinesRoot(t, "no cgroup is delegated to the user")
	cg := make(t, limits.Limits{Memory: "32m"})
	if n := kernel(t, cg, "memory.max", "memory.limit_in_bytes"); n != 32<<20 {
		t.Errorf("the kernel's limit is %d, want %d", n, 32<<20)
	}
	hog := cgrouptest.Start(t, "hog", "256")
	hog.Begin(t, cgroups.Paths(cg)...)
	if status := hog.Ended(t).Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != unix.SIGKILL {
		t.Errorf("the hog ended with %v, want SIGKILL", status)
	}
	s := counters.Read(cg)
	if s.OOMKills == 0 {
		t.Error("Stats counts no process killed because memory was full")
	}
	if n := kernel(t, cg, "memory.events oom_kill", "memory.oom_control oom_kill"); n != s.OOMKills {
		t.Errorf("the kernel counts %d processes killed, Stats %d", n, s.OOMKills)
	}
	// memory.peak of v2 came with Linux 5.19. The kernel lets itself have a page or so more than the limit.
	if s.MemoryPeak != 0 && (s.MemoryPeak > 33<<20 || s.MemoryPeak < 16<<20) {
		t.Errorf("memory went up to %d bytes, want nearly 32 MiB", s.MemoryPeak)
	}
}

func TestMemoryWithinTheLimitIsGiven(t *testing.T) {
	testenv.NeedMachinesRoot(t, "no cgroup is delegated to the user")
	cg := make(t, limits.Limits{Memory: "128m"})
	hog := cgrouptest.Start(t, "hog", "32")
	hog.Begin(t, cgroups.Paths(cg)...)
	if state := hog.Ended(t); !state.Success() {
		t.Errorf("ended with %v", state)
	}
	if s := counters.Read(cg); s.OOMKills != 0 || (s.MemoryPeak != 0 && s.MemoryPeak < 32<<20) {
		t.Errorf("%+v, want no kill and at least 32 MiB", s)
	}
}

// Of the clock on the wall this test knows nothing: on a busy machine the spinner gets less, never more.
func TestSpinnerIsHeldAtItsShare(t *testing.T) {
	testenv.NeedMachinesRoot(t, "no cgroup is delegated to the user")
	cg := make(t, limits.Limits{CPUs: "0.2"})
	cgrouptest.Start(t, "spin").Begin(t, cgroups.Paths(cg)...)
	deadline := time.Now().Add(2 * time.Minute)
	for counters.Read(cg).Throttled < 20 && time.Now().Before(deadline) {
		time.Sleep(100 * time.Millisecond)
	}
	s := counters.Read(cg)
	if s.Throttled < 20 {
		t.Fatalf("the spinner had to wait %d times", s.Throttled)
	}
	// Periods in which it was ready to run. Each gives it 20 ms, and a processor may take some ms too much at its end.
	periods := kernel(t, cg, "cpu.stat nr_periods", "cpu.stat nr_periods")
	share := s.CPU.Seconds() / (float64(periods) * 0.1)
	if share < 0.1 || share > 0.3 {
		t.Errorf("the spinner used %v in %d periods, a share of %.2f, want 0.2", s.CPU, periods, share)
	}
}

func TestForkStormIsStopped(t *testing.T) {
	testenv.NeedMachinesRoot(t, "no cgroup is delegated to the user")
	const limit = 30
	cg := make(t, limits.Limits{Pids: limit})
	storm := cgrouptest.Start(t, "fork")
	storm.Begin(t, cgroups.Paths(cg)...)
	refused := storm.Ended(t).ExitCode()
	if refused <= 100-limit || refused > 100 {
		t.Errorf("of 100 forks %d were refused; at a limit of %d, with the forker's own threads, want more than %d", refused, limit, 100-limit)
	}
	if s := counters.Read(cg); s.PidsMax < uint64(refused) {
		t.Errorf("Stats counts %d refused forks, want %d", s.PidsMax, refused)
	}
	alive := kernel(t, cg, "pids.current", "pids.current")
	if alive == 0 || alive > limit {
		t.Errorf("%d processes are left, want some, and at most %d", alive, limit)
	}

	// The storm's children live. Remove, which make calls again, ends them.
	procs, err := os.ReadFile(filepath.Join(cgroups.Paths(cg)[0], "cgroup.procs"))
	if err != nil || len(procs) == 0 {
		t.Fatalf("cgroup.procs: %q, %v", procs, err)
	}
	if err := cgroups.Remove(cg); err != nil {
		t.Fatal(err)
	}
	for _, pid := range strings.Fields(string(procs)) {
		raw, err := os.ReadFile(filepath.Join("/proc", pid, "status"))
		if err == nil && !strings.Contains(string(raw), "State:\tZ") {
			t.Errorf("process %s lives:\n%s", pid, raw)
		}
	}
}

func TestRemoveTakesCgroupsInside(t *testing.T) {
	testenv.NeedMachinesRoot(t, "no cgroup is delegated to the user")
	cg := make(t, limits.Limits{Pids: 50})
	for _, path := range cgroups.Paths(cg) {
		inside := filepath.Join(path, "a", "b")
		if err := os.MkdirAll(inside, 0o755); err != nil {
			t.Fatal(err)
		}
		cgrouptest.Start(t, "sleep").Begin(t, inside)
	}
	if err := cgroups.Remove(cg); err != nil {
		t.Error(err)
	}
	if err := cgroups.Remove(cg); err != nil {
		t.Errorf("what is gone cannot be removed: %v", err)
	}
}

func TestALimitThatTheKernelRefusesIsNamed(t *testing.T) {
	testenv.NeedMachinesRoot(t, "no cgroup is delegated to the user")
	quota, period := int64(1), uint64(100_000) // the least quota is 1 ms
	cg := cgrouptest.Cgroup(t)
	err := cgroups.Set(cg, cgroups.Settings(&specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &quota, Period: &period}}))
	if !errors.Is(err, unix.EINVAL) || !strings.Contains(err.Error(), "limit CPU quota") {
		t.Errorf("Set = %v, want EINVAL about CPU quota", err)
	}
}

func TestAMachineWithoutCgroupsIsToldHowToGetThem(t *testing.T) {
	testenv.NeedMachinesRoot(t, "it mounts cgroup file systems")
	p := cgrouptest.Start(t, "without")
	p.Begin(t)
	for _, want := range []string{"no cgroup file system is mounted", "mount -t "} {
		if line, err := p.Stdout.ReadString('\n'); err != nil || !strings.Contains(line, want) {
			t.Errorf("New says %q, %v; want %q", line, err, want)
		}
	}
}

func TestNewDoesNotTakeWhatIsThere(t *testing.T) {
	testenv.NeedMachinesRoot(t, "no cgroup is delegated to the user")
	cg := make(t, limits.Limits{Pids: 50})
	if second, err := cgroups.New(nil, "gocker-"+cgrouptest.ID(t)); !errors.Is(err, fs.ErrExist) {
		t.Errorf("New = %v, %v; want ErrExist", second, err)
	}
	if n := kernel(t, cg, "pids.max", "pids.max"); n != 50 {
		t.Errorf("the first one's limit is %d now", n)
	}
}

func TestRemoveDeadTakesAllOfAKilledOwner(t *testing.T) {
	testenv.NeedMachinesRoot(t, "no cgroup is delegated to the user")
	d := testenv.Dirs(t)
	owner := cgrouptest.Start(t, "own", d.Root, d.Run)
	owner.Begin(t)
	line, err := owner.Stdout.ReadString('\n')
	words := strings.Fields(line)
	if err != nil || len(words) < 2 {
		t.Fatalf("the owner says %q, %v", line, err)
	}
	pid, err := strconv.Atoi(words[0])
	if err != nil {
		t.Fatalf("the owner says %q", line)
	}
	containers := func() int {
		folders, err := filepath.Glob(d.Container("*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(folders)
	}

	// What a living process owns is not touched.
	if err := cgroups.RemoveDead(d); err != nil || containers() != 1 {
		t.Fatalf("RemoveDead = %v, %d containers are left, want 1", err, containers())
	}
	if err := unix.Kill(pid, 0); err != nil {
		t.Fatalf("the container's process: %v", err)
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	owner.Process.Wait()
	if err := cgroups.RemoveDead(d); err != nil || containers() != 0 {
		t.Errorf("RemoveDead = %v, %d containers are left, want none", err, containers())
	}
	for _, path := range words[1:] {
		cgrouptest.Gone(t, path)
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err == nil && !strings.Contains(string(raw), "State:\tZ") {
		t.Errorf("the container's process lives:\n%s", raw)
	}
}
