//go:build linux

package cgroups_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/testenv"
	"gocker/step06-cgroups/cgroups"
)

// make makes a cgroup with these limits, and proves at the end that nothing of it is left.
func make(t testing.TB, l cgroups.Limits) cgroups.Cgroup {
	t.Helper()
	testenv.NeedRoot(t)
	r, err := l.Resources()
	if err != nil {
		t.Fatal(err)
	}
	cgroups.NoSwap(r)
	cg, err := cgroups.New("gocker-"+id(t), r, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cgroups.Remove(cg, nil); err != nil {
			t.Error(err)
		}
		for _, path := range cg.Paths() {
			gone(t, path)
		}
	})
	return cg
}

// id is one that no other test and no container has.
func id(t testing.TB) string {
	return fmt.Sprintf("test-%d-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-"))
}

func gone(t testing.TB, path string) {
	t.Helper()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat %q = %v, want that it is gone", path, err)
	}
}

// stats reads what the kernel counted.
func stats(t testing.TB, cg cgroups.Cgroup) cgroups.Stats {
	t.Helper()
	s, err := cg.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// kernel finds a number in the kernel's files about a controller, in a line "key number" or, if key is "", in the file
// that has nothing else. It is another way than that of Stats.
func kernel(t testing.TB, cg cgroups.Cgroup, controller, file, key string) int64 {
	t.Helper()
	for _, path := range cg.Files(controller) {
		if filepath.Base(path) != file {
			continue
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(string(raw))
		for i, field := range fields {
			if key == "" || field == key {
				n, err := strconv.ParseInt(fields[min(i+1, len(fields)-1)], 10, 64)
				if err != nil {
					t.Fatalf("%s: %v", path, err)
				}
				return n
			}
		}
	}
	t.Fatalf("the kernel says nothing of %s %s", file, key)
	return 0
}

func inVersion(cg cgroups.Cgroup, v1, v2 string) string {
	if cg.Version() == "v1" {
		return v1
	}
	return v2
}

func TestMemoryHogIsKilled(t *testing.T) {
	cg := make(t, cgroups.Limits{Memory: "32m"})
	if n := kernel(t, cg, "memory", inVersion(cg, "memory.limit_in_bytes", "memory.max"), ""); n != 32<<20 {
		t.Errorf("the kernel's limit is %d, want %d", n, 32<<20)
	}
	hog := start(t, "hog", "256")
	hog.begin(t, cg)
	if status := hog.ended(t).Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != unix.SIGKILL {
		t.Errorf("the hog ended with %v, want SIGKILL", status)
	}
	s := stats(t, cg)
	if s.OOMKills == 0 {
		t.Error("Stats counts no process killed because memory was full")
	}
	if n := kernel(t, cg, "memory", inVersion(cg, "memory.oom_control", "memory.events"), "oom_kill"); uint64(n) != s.OOMKills {
		t.Errorf("the kernel counts %d processes killed, Stats %d", n, s.OOMKills)
	}
	// memory.peak of v2 came with Linux 5.19. The kernel lets itself have a page or so more than the limit.
	if s.MemoryPeak != 0 && (s.MemoryPeak > 33<<20 || s.MemoryPeak < 16<<20) {
		t.Errorf("memory went up to %d bytes, want nearly 32 MiB", s.MemoryPeak)
	}
}

func TestMemoryWithinTheLimitIsGiven(t *testing.T) {
	cg := make(t, cgroups.Limits{Memory: "128m"})
	hog := start(t, "hog", "32")
	hog.begin(t, cg)
	if state := hog.ended(t); !state.Success() {
		t.Errorf("ended with %v", state)
	}
	if s := stats(t, cg); s.OOMKills != 0 || (s.MemoryPeak != 0 && s.MemoryPeak < 32<<20) {
		t.Errorf("%+v, want no kill and at least 32 MiB", s)
	}
}

// Of the clock on the wall this test knows nothing: on a busy machine the spinner gets less, never more.
func TestSpinnerIsHeldAtItsShare(t *testing.T) {
	cg := make(t, cgroups.Limits{CPUs: "0.2"})
	start(t, "spin").begin(t, cg)
	deadline := time.Now().Add(2 * time.Minute)
	for stats(t, cg).Throttled < 20 && time.Now().Before(deadline) {
		time.Sleep(100 * time.Millisecond)
	}
	s := stats(t, cg)
	if s.Throttled < 20 {
		t.Fatalf("the spinner had to wait %d times", s.Throttled)
	}
	// Periods in which it was ready to run. Each gives it 20 ms, and a processor may take some ms too much at its end.
	periods := kernel(t, cg, "cpu", "cpu.stat", "nr_periods")
	share := s.CPU.Seconds() / (float64(periods) * 0.1)
	if share < 0.1 || share > 0.3 {
		t.Errorf("the spinner used %v in %d periods, a share of %.2f, want 0.2", s.CPU, periods, share)
	}
}

func TestForkStormIsStopped(t *testing.T) {
	const limit = 30
	cg := make(t, cgroups.Limits{Pids: limit})
	storm := start(t, "fork")
	storm.begin(t, cg)
	refused := storm.ended(t).ExitCode()
	if refused <= 100-limit || refused > 100 {
		t.Errorf("of 100 forks %d were refused; at a limit of %d, with the forker's own threads, want more than %d", refused, limit, 100-limit)
	}
	if s := stats(t, cg); s.PidsMax < uint64(refused) {
		t.Errorf("Stats counts %d refused forks, want %d", s.PidsMax, refused)
	}
	alive := kernel(t, cg, "pids", "pids.current", "")
	if alive == 0 || alive > limit {
		t.Errorf("%d processes are left, want some, and at most %d", alive, limit)
	}

	// The storm's children live. Remove, which make calls again, ends them.
	procs, err := os.ReadFile(filepath.Join(cg.Paths()[0], "cgroup.procs"))
	if err != nil || len(procs) == 0 {
		t.Fatalf("cgroup.procs: %q, %v", procs, err)
	}
	if err := cgroups.Remove(cg, nil); err != nil {
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
	cg := make(t, cgroups.Limits{Pids: 50})
	for _, path := range cg.Paths() {
		inside := filepath.Join(path, "a", "b")
		if err := os.MkdirAll(inside, 0o755); err != nil {
			t.Fatal(err)
		}
		p := start(t, "sleep")
		p.begin(t, nil)
		if err := os.WriteFile(filepath.Join(inside, "cgroup.procs"), []byte(strconv.Itoa(p.Process.Pid)), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := cgroups.Remove(cg, nil); err != nil {
		t.Error(err)
	}
	if err := cgroups.Remove(cg, nil); err != nil {
		t.Errorf("what is gone cannot be removed: %v", err)
	}
}

func TestNewLeavesNothingWhenItFails(t *testing.T) {
	testenv.NeedRoot(t)
	pids, quota, period := int64(10), int64(1), uint64(100_000) // the least quota is 1 ms
	_, err := cgroups.New("gocker-"+id(t), &specs.LinuxResources{
		CPU:  &specs.LinuxCPU{Quota: &quota, Period: &period},
		Pids: &specs.LinuxPids{Limit: &pids},
	}, nil)
	if !errors.Is(err, unix.EINVAL) {
		t.Errorf("New = %v, want EINVAL", err)
	}
	if left := find(t, id(t)); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestNewDoesNotTakeWhatIsThere(t *testing.T) {
	cg := make(t, cgroups.Limits{Pids: 50})
	if second, err := cgroups.New("gocker-"+id(t), &specs.LinuxResources{}, nil); !errors.Is(err, fs.ErrExist) {
		t.Errorf("New = %v, %v; want ErrExist", second, err)
	}
	if n := kernel(t, cg, "pids", "pids.max", ""); n != 50 {
		t.Errorf("the first one's limit is %d now", n)
	}
}

// find lists the cgroups of a container, wherever they are.
func find(t testing.TB, id string) (found []string) {
	t.Helper()
	filepath.WalkDir("/sys/fs/cgroup", func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.Name() == "gocker-"+id {
			found = append(found, path)
		}
		return nil // cgroups come and go while we walk
	})
	return found
}

func TestRemoveDeadTakesAllOfAKilledOwner(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	owner := start(t, "own", d.Root, d.Run)
	owner.begin(t, nil)
	line, err := owner.stdout.ReadString('\n')
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
		gone(t, path)
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err == nil && !strings.Contains(string(raw), "State:\tZ") {
		t.Errorf("the container's process lives:\n%s", raw)
	}
}
