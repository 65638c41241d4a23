//go:build linux

package cli_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gocker/final/internal/containers"
	"gocker/final/internal/engine"
	"gocker/final/internal/events"
	"gocker/final/internal/life"
	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/testenv"
)

var (
	containerKills = flag.Int("container-kills", 24, "how often TestKilledAtAnyMoment… kills")
	together       = flag.Int("together", 100, "how many containers run at the same time")
	alive          = flag.Int("alive", 50, "how many containers are alive when another one starts")
	serial         = flag.Int("serial", 200, "how many containers run one after another")
)

// processes are those whose environment says that they are gockers of d, and those in a cgroup of one of its containers.
func processes(t testing.TB, d dirs.Dirs) (found []string) {
	t.Helper()
	ids := containerIDs(t, d)
	pids, err := dirs.Glob("/proc", "[1-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, proc := range pids {
		environ, _ := os.ReadFile(filepath.Join(proc, "environ"))
		cgroup, _ := os.ReadFile(filepath.Join(proc, "cgroup"))
		ours := bytes.Contains(environ, []byte("GOCKER_RUN="+d.Run+"\x00"))
		for _, id := range ids {
			ours = ours || bytes.Contains(cgroup, []byte("gocker-"+id))
		}
		if ours {
			name, _ := os.ReadFile(filepath.Join(proc, "cmdline"))
			found = append(found, filepath.Base(proc)+" "+string(bytes.ReplaceAll(name, []byte{0}, []byte{' '})))
		}
	}
	return found
}

// containerIDs are those of all containers that there have been.
func containerIDs(t testing.TB, d dirs.Dirs) (ids []string) {
	t.Helper()
	err := engine.Engine{Dirs: d}.Events().Read(time.Unix(1, 0), time.Now(), func(event events.Event) error {
		if event.Action == "create" {
			ids = append(ids, event.Actor.ID)
		}
		return nil
	}, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// nothingIsLeft looks for what containers may leave: folders, names, mounts, cgroups, processes.
func nothingIsLeft(t testing.TB, d dirs.Dirs) {
	t.Helper()
	for _, folder := range []string{"containers", "names"} {
		if left := testenv.Ls(t, filepath.Join(d.Run, folder)); len(left) > 0 {
			t.Errorf("%s has %q", folder, left)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, d.Run) {
			t.Errorf("a mount is left: %s", line)
		}
	}
	ids := map[string]bool{}
	for _, id := range containerIDs(t, d) {
		ids["gocker-"+id] = true
	}
	filepath.WalkDir("/sys/fs/cgroup", func(path string, entry os.DirEntry, err error) error {
		if err == nil && ids[entry.Name()] {
			t.Errorf("a cgroup is left: %s", path)
		}
		return nil
	})
	var left []string
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if left = processes(t, d); len(left) == 0 || time.Now().After(deadline) {
			break // one that was killed may be about to go
		}
	}
	if len(left) > 0 {
		t.Errorf("processes are left: %q", left)
	}
}

// monitors are the pids of all monitors of d.
func monitors(t testing.TB, d dirs.Dirs) (pids []int) {
	for _, process := range processes(t, d) {
		if pid, name, _ := strings.Cut(process, " "); strings.HasPrefix(name, "gocker-monitor") {
			n, _ := strconv.Atoi(pid)
			pids = append(pids, n)
		}
	}
	return pids
}

func TestKilledAtAnyMomentContainersAreWhatPsSays(t *testing.T) {
	d := withSample(t)
	e := engine.Engine{Dirs: d}
	began := time.Now()
	mustGocker(t, d, "run", "--rm", "sample", "true")
	took := time.Since(began)
	killed := map[string]int{}
	for i := range many(*containerKills) {
		whom := []string{"gocker", "monitor", "init"}[i%3]
		args := []string{"run", "--name", "victim", "sample", "sleep", "10"}
		if rand.N(2) == 0 {
			args = append([]string{"run", "--rm"}, args[1:]...)
		}
		if whom == "monitor" || rand.N(2) == 0 {
			args = append([]string{"run", "-d"}, args[1:]...)
		}
		cmd := gockerCommand(d, args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(took * 3 / 2))
		switch whom {
		case "gocker":
			if cmd.Process.Kill() == nil {
				killed[whom]++
			}
		case "monitor":
			for _, pid := range monitors(t, d) {
				if unix.Kill(pid, unix.SIGKILL) == nil {
					killed[whom]++
				}
			}
		case "init":
			waitFor(t, func() bool { // else nobody would end it
				states, err := e.Containers().List()
				if err != nil {
					t.Fatalf("ps: %v", err)
				}
				return len(states) > 0 && states[0].Pid > 0 && unix.Kill(states[0].Pid, unix.SIGKILL) == nil
			})
			killed[whom]++
		}
		cmd.Wait()
		states, err := e.Containers().List()
		if err != nil {
			t.Errorf("ps: %v", err)
		}
		for _, s := range states {
			waitFor(t, func() bool { // a process may have ended a moment ago, and its monitor be about to write that down
				now, err := e.Containers().List()
				_, procErr := os.Stat(fmt.Sprintf("/proc/%d", s.Pid))
				return err == nil && (s.Pid == 0 || procErr == nil || len(now) == 0 || now[0].Pid != s.Pid)
			})
			// With --rm it may be gone meanwhile.
			if err := e.Life().Remove(s.ID, life.RmOptions{Force: true}); err != nil && !errors.Is(err, containers.ErrNoContainer) {
				t.Errorf("rm -f: %v", err)
			}
		}
		// A monitor that was just being started may have gone on without whoever wanted it: then there is its container.
		waitFor(t, func() bool {
			states, err := e.Containers().List()
			for _, s := range states {
				e.Life().Remove(s.ID, life.RmOptions{Force: true})
			}
			return err == nil && len(states) == 0 && len(processes(t, d)) == 0 && len(testenv.Ls(t, d.Containers())) == 0
		})
		nothingIsLeft(t, d)
		if t.Failed() {
			t.Fatalf("that was after killing %s of gocker %s", whom, strings.Join(args, " "))
		}
	}
	t.Logf("killed %v of %d", killed, many(*containerKills))
}

func TestAFolderRemovedByHandIsNoContainer(t *testing.T) {
	d := withSample(t)
	mustGocker(t, d, "create", "--name", "gone", "sample", "true")
	if err := os.RemoveAll(d.Lasting(testenv.Ls(t, d.AllLasting())[0])); err != nil {
		t.Fatal(err)
	}
	if output := mustGocker(t, d, "ps", "-a"); strings.Contains(output, "gone") {
		t.Errorf("ps -a = %q", output)
	}
	mustGocker(t, d, "run", "--rm", "--name", "gone", "sample", "true")
	nothingIsLeft(t, d)
}

func TestAfterARebootContainersHaveEnded(t *testing.T) {
	d := withSample(t)
	mustGocker(t, d, "run", "-d", "--name", "before", "sample", "sleep", "1000")
	// The folder as it was, if /run is on a disk: its locks, mounts and processes are gone.
	folder := filepath.Join(d.Containers(), testenv.Ls(t, d.Containers())[0])
	state, err := os.ReadFile(filepath.Join(folder, "state.json"))
	if err != nil {
		t.Fatal(err)
	}
	mustGocker(t, d, "kill", "before")
	mustGocker(t, d, "wait", "before")
	if err := os.WriteFile(filepath.Join(folder, "state.json"), state, 0o600); err != nil {
		t.Fatal(err)
	}
	if output := mustGocker(t, d, "ps", "-a"); !strings.Contains(output, "Exited (137)") {
		t.Errorf("ps -a = %q, want it to have ended", output)
	}
	mustGocker(t, d, "start", "before")
	mustGocker(t, d, "rm", "-f", "before")
	nothingIsLeft(t, d)
}

// runOne runs a container that says its own host name, which is its id.
func runOne(t testing.TB, d dirs.Dirs) {
	output, err := gocker(t, d, "run", "--rm", "sample", "hostname")
	if err != nil || len(output) != 13 {
		t.Errorf("gocker run --rm sample hostname: %q, %v", output, err)
	}
}

func TestManyAtTheSameTime(t *testing.T) {
	d := withSample(t)
	var all sync.WaitGroup
	for range many(*together) {
		all.Go(func() { runOne(t, d) })
	}
	all.Wait()
	nothingIsLeft(t, d)
}

func TestManyOneAfterAnother(t *testing.T) {
	d := withSample(t)
	fds := testenv.Ls(t, "/proc/self/fd")
	for range many(*serial) {
		runOne(t, d)
	}
	if now := testenv.Ls(t, "/proc/self/fd"); len(now) > len(fds)+2 {
		t.Errorf("file descriptors: %d, before %d", len(now), len(fds))
	}
	nothingIsLeft(t, d)
}

func TestManyAlive(t *testing.T) {
	d := withSample(t)
	alive := many(*alive)
	start := func() time.Duration {
		began := time.Now()
		for range 20 {
			runOne(t, d)
		}
		return time.Since(began) / 20
	}
	alone := start()
	var all sync.WaitGroup
	for i := range alive {
		all.Go(func() {
			if output, err := gocker(t, d, "run", "-d", "--name", fmt.Sprint("alive-", i), "sample", "sleep", "10000"); err != nil {
				t.Errorf("gocker run -d: %v\n%s", err, output)
			}
		})
	}
	all.Wait()
	t.Logf("a start takes %v alone, %v beside %d", alone, start(), alive)
	if states, err := (engine.Engine{Dirs: d}).Containers().List(); err != nil || len(states) != alive {
		t.Errorf("ps lists %d containers, %v, want %d", len(states), err, alive)
	}
	args := []string{"rm", "-f"}
	for i := range alive {
		args = append(args, fmt.Sprint("alive-", i))
	}
	mustGocker(t, d, args...)
	nothingIsLeft(t, d)
}
