//go:build linux

package cgroups_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/layers"
	"gocker/step04-overlay/overlay"
	"gocker/step06-cgroups/cgroups"
)

// The tests want processes that do one thing in a cgroup. These are this program again, with "probe" and one of the
// names below as arguments. It begins when it can read a line.
var probes = map[string]func(args []string) error{
	"hog":   hog,
	"spin":  spin,
	"fork":  fork,
	"sleep": func([]string) error { select {} },
	"true":  func([]string) error { return nil },
	"new":   newCgroup,
	"own":   own,
	"open":  openNodes,
}

func TestMain(m *testing.M) {
	if len(os.Args) < 3 || os.Args[1] != "probe" {
		os.Exit(m.Run())
	}
	bufio.NewReader(os.Stdin).ReadString('\n')
	if err := probes[os.Args[2]](os.Args[3:]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
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

// newCgroup makes a cgroup and prints where.
func newCgroup(args []string) error {
	r, err := cgroups.Limits{Memory: "64m", Pids: 100}.Resources()
	if err != nil {
		return err
	}
	cg, err := cgroups.New("gocker-"+args[0], r, nil)
	if err != nil {
		return err
	}
	fmt.Println(strings.Join(cg.Paths(), " "))
	return cgroups.Remove(cg, nil)
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
	f, err := overlay.Create(d, img, nil)
	if err != nil {
		return err
	}
	if err := f.Mount(); err != nil {
		return err
	}
	r, err := cgroups.Limits{Pids: 50}.Resources()
	if err != nil {
		return err
	}
	cg, err := cgroups.New("gocker-"+f.ID, r, nil)
	if err != nil {
		return err
	}
	if err := cgroups.Record(f, cg); err != nil {
		return err
	}
	cmd := exec.Command("/proc/self/exe", "probe", "sleep")
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := cg.Add(cmd.Process.Pid); err != nil {
		return err
	}
	fmt.Println(cmd.Process.Pid, strings.Join(cg.Paths(), " "))
	select {}
}

// A probe is a process that waits for Go.
type probe struct {
	*exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
}

func start(t testing.TB, args ...string) *probe {
	t.Helper()
	p := &probe{Cmd: exec.CommandContext(t.Context(), "/proc/self/exe", append([]string{"probe"}, args...)...)}
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
	p.stdout = bufio.NewReader(stdout)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Process.Kill()
		p.Wait()
	})
	return p
}

// begin puts the probe into a cgroup, and lets it begin.
func (p *probe) begin(t testing.TB, cg cgroups.Cgroup) {
	t.Helper()
	if cg != nil {
		if err := cg.Add(p.Process.Pid); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(p.stdin, "\n"); err != nil {
		t.Fatal(err)
	}
}

// ended waits at most 2 minutes for the end of the probe.
func (p *probe) ended(t testing.TB) *os.ProcessState {
	t.Helper()
	late := time.AfterFunc(2*time.Minute, func() {
		t.Error("the probe does not end")
		p.Process.Kill()
	})
	defer late.Stop()
	p.Wait()
	return p.ProcessState
}
