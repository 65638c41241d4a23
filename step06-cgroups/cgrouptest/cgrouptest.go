//go:build linux

// Package cgrouptest is what tests of cgroups run in one: a process that does one thing. It is the test's own program
// again, with "probe" and a name as arguments, and begins when it can read a line.
package cgrouptest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/testenv"
	"gocker/step06-cgroups/cgroups"
)

var probes = map[string]func(args []string) error{
	"hog":   hog,
	"spin":  spin,
	"fork":  fork,
	"sleep": func([]string) error { select {} },
	"true":  func([]string) error { return nil },
}

// Main is for TestMain: it runs the tests, or is a probe. more are probes of these tests alone.
func Main(m *testing.M, more map[string]func(args []string) error) {
	if len(os.Args) < 3 || os.Args[1] != "probe" {
		testenv.Alone()
		os.Exit(m.Run())
	}
	maps.Copy(probes, more)
	bufio.NewReader(os.Stdin).ReadString('\n')
	if err := probes[os.Args[2]](os.Args[3:]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// Cgroup makes a cgroup, and proves at the end that nothing of it is left.
func Cgroup(t testing.TB) cgroups.Cgroup {
	t.Helper()
	testenv.NeedRoot(t)
	cg, err := cgroups.New(nil, "gocker-"+ID(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cgroups.Remove(cg); err != nil {
			t.Error(err)
		}
		for _, path := range cg.Folders() {
			Gone(t, path)
		}
	})
	return cg
}

// ID is one that no other test and no container has, and that testenv.Alone knows as ours.
func ID(t testing.TB) string {
	return fmt.Sprintf("test-%s-%s", filepath.Base(os.TempDir()), strings.ReplaceAll(t.Name(), "/", "-"))
}

// Gone is about a folder that must not be there.
func Gone(t testing.TB, path string) {
	t.Helper()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("stat %q = %v, want that it is gone", path, err)
	}
}

// Find lists the cgroups with an ID, wherever they are.
func Find(t testing.TB, id string) (found []string) {
	t.Helper()
	filepath.WalkDir("/sys/fs/cgroup", func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.Name() == "gocker-"+id {
			found = append(found, path)
		}
		return nil // cgroups come and go while we walk
	})
	return found
}

// File reads one of the kernel's files of a cgroup.
func File(t testing.TB, cg cgroups.Cgroup, v2, v1 string) string {
	t.Helper()
	raw, err := os.ReadFile(cg.Path(cg.Word(v2, v1)))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(raw))
}

func spin([]string) error {
	for n := 0; n >= 0; n++ {
	}
	return nil
}

// hog uses as many MiB of memory as it is told, and with a second argument says so and stays.
func hog(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	for range n {
		// A page that nobody wrote to takes no memory.
		memory, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			return err
		}
		for i := 0; i < len(memory); i += os.Getpagesize() {
			memory[i] = 1
		}
	}
	if len(args) > 1 {
		fmt.Println("here")
		select {}
	}
	return nil
}

// fork forks 100 processes that wait forever, and ends with the number of those that the kernel refused.
func fork([]string) error {
	runtime.LockOSThread()
	refused := 0
	for range 100 {
		// Not os/exec: it needs threads, which count too, and Go gives up where it cannot have one.
		pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if errno != 0 {
			refused++
		} else if pid == 0 {
			for {
				unix.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
			}
		}
	}
	unix.Exit(refused)
	return nil
}

// Disk finds a block device of this machine that can be opened.
func Disk(t testing.TB) string {
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

// A Probe is a process that waits for Begin.
type Probe struct {
	*exec.Cmd
	Stdout *bufio.Reader
	stdin  io.Writer
}

// Start starts a probe. It ends with the test.
func Start(t testing.TB, args ...string) *Probe {
	t.Helper()
	p := &Probe{Cmd: exec.CommandContext(t.Context(), "/proc/self/exe", append([]string{"probe"}, args...)...)}
	p.Env = append(os.Environ(), "GOMAXPROCS=1") // a thread is a process, to the pids controller
	p.Stderr = os.Stderr
	p.WaitDelay = time.Second // what it forked has its output open
	var err error
	if p.stdin, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Stdout = bufio.NewReader(stdout)
	if err := p.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Process.Kill()
		p.Wait()
	})
	return p
}

// Begin puts the probe into these folders, and lets it begin.
func (p *Probe) Begin(t testing.TB, folders ...string) {
	t.Helper()
	p.Move(t, folders...)
	if _, err := io.WriteString(p.stdin, "\n"); err != nil {
		t.Fatal(err)
	}
}

// Move puts the probe into these folders.
func (p *Probe) Move(t testing.TB, folders ...string) {
	t.Helper()
	for _, folder := range folders {
		if err := os.WriteFile(filepath.Join(folder, "cgroup.procs"), []byte(strconv.Itoa(p.Process.Pid)), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// Ended waits at most 2 minutes for the end of the probe.
func (p *Probe) Ended(t testing.TB) *os.ProcessState {
	t.Helper()
	late := time.AfterFunc(2*time.Minute, func() {
		t.Error("the probe does not end")
		p.Process.Kill()
	})
	defer late.Stop()
	p.Wait()
	return p.ProcessState
}
