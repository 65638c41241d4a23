//go:build linux

package cage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/terminal"
	"gocker/step06-cgroups/cgroups"
	"gocker/step06-cgroups/counters"
)

// An Outcome is what became of a program.
type Outcome struct {
	Stdout, Stderr string // the first 64 KiB of each
	Status         int    // 128 + the number of the signal that ended it
	Late           bool   // it was ended, as it took too long
}

// Run runs a program in the cage and waits for its end, at most so long. An error is that it could not be started.
func (c *Cage) Run(args []string, most time.Duration) (Outcome, error) {
	r, err := c.Start(args, nil, nil)
	if err != nil {
		return Outcome{}, err
	}
	return r.Wait(most)
}

// A Running program is in a cage.
type Running struct {
	*namespaces.Process
	cage           *Cage
	stdout, stderr some
}

// Start starts a program in the cage, with this process's environment, and more, and its working folder. Without stdin there is
// nothing to read.
func (c *Cage) Start(args, env []string, stdin io.Reader) (*Running, error) {
	cwd, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	r := &Running{cage: c}
	process := &specs.Process{Args: args, Env: slices.Concat(os.Environ(), []string{"TMPDIR=" + Dir + "/tmp"}, env), Cwd: cwd}
	streams := terminal.New(process, terminal.Stdio{Stdin: stdin, Stdout: &r.stdout, Stderr: &r.stderr})
	r.Process, err = namespaces.Join(c.first.Pid, process, streams, cgroups.Into(c.inner), c.limitProcesses())
	return r, err
}

// Wait waits for the end of a program, at most so long, and then ends it.
func (r *Running) Wait(most time.Duration) (o Outcome, err error) {
	select {
	case <-r.Ended():
	case <-time.After(most):
		o.Late = true
		r.Kill()
	}
	o.Status, err = r.Process.Wait()
	o.Stdout, o.Stderr = r.stdout.String(), r.stderr.String()
	return o, err
}

// some keeps the beginning of what is written to it.
type some struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *some) Write(p []byte) (int, error) {
	const most = 64 << 10
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b.Write(p[:min(len(p), most-s.b.Len())])
	return len(p), nil
}

func (s *some) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// Left is what programs that have ended left in the cage.
type Left struct {
	Processes []string // their commands
	Mounts    []string // "overlay on /learn/mnt"
	Unmounted []string // what was mounted and is not
	Cgroups   []string // their names
}

// Left looks for what is left. Processes get a moment to end, as those that are killed need one.
func (c *Cage) Left() (left Left, err error) {
	for range 20 {
		if left.Processes, err = c.processes(); err != nil || len(left.Processes) == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	now, mountsErr := c.mounted()
	left.Mounts, left.Unmounted = without(now, c.mounts), without(c.mounts, now)
	for _, folder := range cgroups.Paths(c.cgroup) {
		entries, readErr := os.ReadDir(folder)
		err = errors.Join(err, readErr)
		for _, e := range entries {
			if e.IsDir() && e.Name() != inner {
				left.Cgroups = append(left.Cgroups, e.Name())
			}
		}
	}
	slices.Sort(left.Cgroups)
	left.Cgroups = slices.Compact(left.Cgroups)
	return left, errors.Join(err, mountsErr)
}

// without is a list without one of each that another has.
func without(list, other []string) (rest []string) {
	other = slices.Clone(other)
	for _, s := range list {
		if i := slices.Index(other, s); i >= 0 {
			other = slices.Delete(other, i, i+1)
		} else {
			rest = append(rest, s)
		}
	}
	return rest
}

// processes are those that run in the cage. A zombie is none: PID 1 of a cage waits for nobody.
func (c *Cage) processes() (commands []string, err error) {
	pids, err := c.pids()
	for _, pid := range pids {
		status, statusErr := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if statusErr != nil || bytes.Contains(status, []byte("\nState:\tZ")) {
			continue
		}
		command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		commands = append(commands, strings.TrimSpace(strings.ReplaceAll(string(command), "\x00", " ")))
	}
	return commands, err
}

// pids are those of all processes in the cage but its first, as the host counts.
func (c *Cage) pids() (all []int, err error) {
	entries, err := os.ReadDir("/proc")
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil && pid != c.first.Pid && c.has(pid) {
			all = append(all, pid)
		}
	}
	return all, err
}

// has tells whether a process is in the pid namespace of the cage, or in one that was made in there. See NS_GET_PARENT in ioctl_ns(2).
func (c *Cage) has(pid int) bool {
	if len(numbersOf(pid)) < len(numbersOf(c.first.Pid)) {
		return false
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", pid))
	for err == nil { // else it is somebody else's, or the outermost one that this process sees
		defer ns.Close()
		if info, err := ns.Stat(); err == nil && os.SameFile(info, c.pidNS) {
			return true
		}
		var fd int
		if fd, err = unix.IoctlRetInt(int(ns.Fd()), nsGetParent); err == nil {
			ns = os.NewFile(uintptr(fd), "pid namespace")
		}
	}
	return false
}

// nsGetParent is NS_GET_PARENT of the kernel's linux/nsfs.h.
const nsGetParent = 0xb702

// Stdout is what the program has written by now.
func (r *Running) Stdout() string { return r.stdout.String() }

// Firsts are the first processes of the pid namespaces that programs made, as the host counts.
func (c *Cage) Firsts() (pids []int, err error) {
	all, err := c.Container()
	for _, pid := range all {
		if numbers := numbersOf(pid); len(numbers) > 0 && numbers[len(numbers)-1] == "1" {
			pids = append(pids, pid)
		}
	}
	return pids, err
}

// numbersOf are the numbers that a process has, in its pid namespace and in those above.
func numbersOf(pid int) []string {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // one that has ended has none
	_, after, _ := strings.Cut(string(status), "\nNSpid:")
	line, _, _ := strings.Cut(after, "\n")
	return strings.Fields(line)
}

// Namespace identifies one of a process, "net" for one; 0 is the cage's own first process.
func (c *Cage) Namespace(pid int, kind string) (string, error) {
	if pid == 0 {
		pid = c.first.Pid
	}
	return os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
}

// KillRest ends what is left of programs.
func (c *Cage) KillRest() {
	pids, _ := c.pids() // of those that cannot be found none is killed, until the end of the cage
	for _, pid := range pids {
		unix.Kill(pid, unix.SIGKILL)
	}
}

// Reached says which limit of the cage a program ran into: "pids", "memory", "disk", or "".
func (c *Cage) Reached() string {
	for _, cg := range []cgroups.Cgroup{c.cgroup, c.inner} {
		if events, err := os.ReadFile(cg.Path("pids.events")); err == nil && !strings.HasPrefix(string(events), "max 0") {
			return "pids"
		}
		if counters.OOMKills(cg) > 0 {
			return "memory"
		}
	}
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(c.memory.Fd()), &s); err == nil && s.Bfree == 0 {
		return "disk"
	}
	return ""
}

// Inside is where this process finds a file as programs of the cage see it, with what they mounted. As with Path, no program
// changes it meanwhile.
func (c *Cage) Inside(name string) string { return fmt.Sprintf("/proc/%d/root%s", c.first.Pid, name) }

// IsMounted tells whether a program mounted a file system of this type there.
func (c *Cage) IsMounted(fstype, point string) (bool, error) {
	now, err := c.mounted()
	return slices.Contains(now, fstype+" on "+point), err
}
