//go:build linux

package runtime_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/runtime"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/testenv"
	"gocker/step04-overlay/overlay"
	"gocker/step04-overlay/testroot"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/terminal"
)

// A seen is what an attacker finds in a process.
type seen struct {
	Exe    string
	Files  []string
	Status map[string]string // some lines of /proc/{pid}/status
}

// attack is this program in a container that has CAP_SYS_PTRACE: it takes hold of each process that appears there, as soon as it
// can, and prints what it finds. Then it takes its files, to hold them, or to say something that looks like a report.
func attack(how string) {
	goruntime.LockOSThread()
	out := json.NewEncoder(os.Stdout)
	out.Encode(look(os.Getpid()))
	const ahead = 8 // numbers come one after the other, and some are threads'
	for next, rounds := unix.Gettid()+1, 0; ; rounds++ {
		if rounds%100 == 0 { // it may have been away, and a number that is over never comes again
			load, _ := os.ReadFile("/proc/loadavg")
			fields := strings.Fields(string(load))
			last, _ := strconv.Atoi(fields[len(fields)-1])
			next = max(next, last)
		}
		for pid := next; pid < next+ahead; pid++ {
			if _, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(pid), 0, 0, 0, 0); errno != 0 {
				continue
			}
			unix.PtraceInterrupt(pid)
			if status := wait(pid); status.Stopped() {
				found := look(pid)
				out.Encode(found)
				pidfd, _ := unix.PidfdOpen(pid, 0)
				for _, name := range found.Files {
					number, _ := strconv.Atoi(name)
					if fd, err := unix.PidfdGetfd(pidfd, number, 0); err == nil && number > 2 && how == "lie" {
						unix.Write(fd, binary.NativeEndian.AppendUint32(make([]byte, 12), uint32(pid)))
						unix.Write(fd, bytes.Repeat([]byte{255}, 16))
					}
				}
				if err := unix.PtraceDetach(pid); err != nil { // it was killed, and is not gone before its tracer knows
					wait(pid)
				}
			}
			next = pid + 1
		}
	}
}

func wait(pid int) (status unix.WaitStatus) {
	for {
		if _, err := unix.Wait4(pid, &status, unix.WALL, nil); err != unix.EINTR {
			return status
		}
	}
}

func look(pid int) (s seen) {
	proc := fmt.Sprintf("/proc/%d/", pid)
	s.Exe, _ = os.Readlink(proc + "exe")
	files, _ := os.ReadDir(proc + "fd")
	for _, f := range files {
		s.Files = append(s.Files, f.Name())
	}
	status, _ := os.ReadFile(proc + "status")
	s.Status = map[string]string{}
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		s.Status[key] = strings.TrimSpace(value)
	}
	return s
}

// attacker starts the attack in a container. found returns all that it has found so far; the first is its own process.
func attacker(t *testing.T, f *overlay.FS, how string) (c *runtime.Container, spec *specs.Spec, found func() []seen) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	spec = namespaces.Spec(f.Mnt(), "x", []string{"/tmp/attack", "attack", how})
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/tmp/attack", Type: "bind", Source: self, Options: []string{"bind", "ro"}})
	spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: []string{"CAP_SYS_PTRACE", "CAP_KILL"}}
	spec.Linux.Seccomp = denies(unix.EPERM, "mount")
	var out locked
	c, err = create(t, f, spec, terminal.Stdio{Stdout: &out, Stderr: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Abort)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	found = func() (all []seen) {
		for line := range strings.Lines(out.String()) {
			var s seen
			if json.Unmarshal([]byte(line), &s) == nil { // the last may not be complete
				all = append(all, s)
			}
		}
		return all
	}
	for deadline := time.Now().Add(10 * time.Second); len(found()) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the attack does not begin")
		}
	}
	return c, spec, found
}

// locked is a buffer that is read while it is written.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// isMore tells what a process has more than its attacker; "" is nothing.
func isMore(s, own seen) string {
	for _, set := range []string{"CapPrm", "CapEff", "CapInh", "CapBnd"} {
		has, err := strconv.ParseUint(s.Status[set], 16, 64)
		may, ownErr := strconv.ParseUint(own.Status["CapBnd"], 16, 64)
		if err != nil || ownErr != nil || has&^may != 0 {
			return fmt.Sprintf("%s is %s, and the container has %s", set, s.Status[set], own.Status["CapBnd"])
		}
	}
	size, _, _ := strings.Cut(s.Status["VmSize"], " ")
	if kB, err := strconv.Atoi(size); filepath.Base(s.Exe) != "sleep" && (err != nil || kB > 500) {
		return fmt.Sprintf("%q has %s of memory", s.Exe, s.Status["VmSize"])
	}
	switch {
	case s.Status["Seccomp"] != own.Status["Seccomp"]:
		return "there is no filter"
	case len(s.Files) > 4: // its streams, and its side of a socket
		return fmt.Sprintf("it has the files %q", s.Files)
	case s.Exe == own.Exe || filepath.Base(s.Exe) != "sleep" && !strings.HasPrefix(s.Exe, "/memfd:gocker-child"):
		return fmt.Sprintf("it executes %q", s.Exe)
	}
	return ""
}

// checkSeen sees that the attacker has found processes, and none that is more than the container. early is how many of them had
// not executed their command.
func checkSeen(t *testing.T, found []seen) (early int) {
	t.Helper()
	if len(found) == 1 {
		t.Error("nothing was attacked")
	}
	for _, s := range found[1:] {
		if more := isMore(s, found[0]); more != "" {
			t.Fatalf("one of %d processes could be looked into, and there %s", len(found)-1, more)
		}
		if filepath.Base(s.Exe) != "sleep" {
			early++
		}
	}
	return early
}

func TestATracerFindsNothingOfGocker(t *testing.T) {
	f := testroot.Mount(t)
	first, spec, found := attacker(t, f, "hold")
	process := *spec
	process.Process = &specs.Process{Args: []string{"sleep", "0"}, Env: spec.Process.Env, Cwd: "/", Capabilities: spec.Process.Capabilities}
	for i := range 60 {
		if i%2 == 1 {
			process.Process.User.UID = 1000
		}
		p, err := runtime.Join(first.Pid, &process, terminal.New(process.Process, terminal.Stdio{Stdout: io.Discard}), first.Cgroup, nil)
		if err != nil {
			t.Fatal(err)
		}
		if status, err := p.Wait(); status != 0 || err != nil {
			t.Errorf("Wait = %d, %v", status, err)
		}
	}
	early := checkSeen(t, found())
	t.Logf("%d processes were attacked, %d of them before they executed their command", len(found())-1, early)
}

func TestATracerFindsNothingOfTheFirstProcessOfAnotherContainer(t *testing.T) {
	f := testroot.Mount(t)
	first, spec, found := attacker(t, f, "hold")
	second := namespaces.Spec(f.Mnt(), "y", []string{"sleep", "0"})
	second.Process.Capabilities, second.Linux.Seccomp = spec.Process.Capabilities, spec.Linux.Seccomp
	use(second, specs.PIDNamespace, fmt.Sprintf("/proc/%d/ns/pid", first.Pid))
	for range 20 {
		n := len(found())
		p, err := create(t, f, second, terminal.Stdio{})
		if err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Second); len(found()) == n && time.Now().Before(deadline); { // it waits: it can be looked at
			time.Sleep(time.Millisecond)
		}
		if status, err := p.Run(); status != 0 || err != nil {
			t.Errorf("Run = %d, %v", status, err)
		}
	}
	if early := checkSeen(t, found()); early == 0 {
		t.Error("none was attacked before it executed its command")
	}
}

func TestATracerCannotSpeakForAProcess(t *testing.T) {
	f := testroot.Mount(t)
	first, spec, found := attacker(t, f, "lie")
	process := *spec
	process.Process = &specs.Process{Args: []string{"sleep", "0"}, Env: spec.Process.Env, Cwd: "/", Capabilities: spec.Process.Capabilities}
	failed := 0
	for range 60 {
		p, err := runtime.Join(first.Pid, &process, terminal.New(process.Process, terminal.Stdio{}), first.Cgroup, nil)
		if err != nil {
			failed++
			continue
		}
		if status, err := p.Wait(); status != 0 || err != nil {
			t.Errorf("Wait = %d, %v", status, err)
		}
	}
	t.Logf("%d starts failed, %d processes were attacked", failed, len(found())-1)
}

func TestWhereSomebodyMayTraceACommandBeginsAsAnywhere(t *testing.T) {
	testenv.Needs(t, "ps")
	f := testroot.Mount(t)
	all := sh(f, `id; pwd; umask; ulimit -a; env; ls /proc/self/fd; cat /proc/self/cgroup /proc/self/oom_score_adj
		grep -E "^(Sig[BIC]|NoNew|Groups|CapInh|CapAmb)" /proc/self/status; ps -o pid,ppid,pgid,sid,tty,args | grep -c .
		ps -o ppid,tty,args -p $$; [ $(ps -o sid= -p $$) = $$ ] && echo leads`)
	all.Process.Env = append(all.Process.Env, "A=a")
	for name, change := range map[string]func(*specs.Process){
		"root":                  func(*specs.Process) {},
		"a user":                func(p *specs.Process) { p.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{7}} },
		"a terminal":            func(p *specs.Process) { p.Terminal = true },
		"a terminal, of a user": func(p *specs.Process) { p.Terminal, p.User.UID = true, 1000 },
		"no new privileges":     func(p *specs.Process) { p.NoNewPrivileges = true },
	} {
		spec := *all
		process := *all.Process
		spec.Process = &process
		change(&process)
		got, _ := second(t, f, &spec)
		if !strings.Contains(got, "leads") {
			t.Errorf("%s: it wrote\n%s\nwant a session of its own", name, got)
		}
		if tty := strings.Contains(got, "pts/0"); tty != process.Terminal {
			t.Errorf("%s: it wrote\n%s\nwant a controlling terminal: %t", name, got, process.Terminal)
		}
	}
}

func TestWhereSomebodyMayTraceErrorsAreAsAnywhere(t *testing.T) {
	f := testroot.Mount(t)
	if err := os.WriteFile(filepath.Join(f.Mnt(), "tmp", "text"), []byte("text"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*specs.Process){
		"no such command":     func(p *specs.Process) { p.Args = []string{"none"} },
		"no such file":        func(p *specs.Process) { p.Args = []string{"/no/such/file"} },
		"an empty word":       func(p *specs.Process) { p.Args = []string{""} },
		"a folder":            func(p *specs.Process) { p.Args = []string{"/etc"} },
		"no program":          func(p *specs.Process) { p.Args = []string{"/tmp/text"} },
		"no path":             func(p *specs.Process) { p.Env = nil },
		"a long argument":     func(p *specs.Process) { p.Args = append(p.Args, strings.Repeat("x", 1<<20)) },
		"a zero byte":         func(p *specs.Process) { p.Args = append(p.Args, "a\x00b") },
		"a zero byte, in env": func(p *specs.Process) { p.Env = append(p.Env, "A=\x00") },
		"no folder":           func(p *specs.Process) { p.Cwd = "/no/folder" },
		"a limit":             func(p *specs.Process) { p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 1 << 62}} },
	} {
		spec := sh(f, "true")
		change(spec.Process)
		_, _, want := secondWith(t, f, spec, notTracing(t))
		_, _, got := secondWith(t, f, spec, nil)
		if want == nil || got == nil || got.Error() != want.Error() || errors.Is(got, namespaces.ErrNotFound) != errors.Is(want, namespaces.ErrNotFound) {
			t.Errorf("%s: Join = %v, want %v", name, got, want)
		}
	}
}

func TestWhereSomebodyMayTraceADeniedCallIsNamed(t *testing.T) {
	f := testroot.Mount(t)
	for _, call := range []string{"execveat", "clone", "fcntl", "setsid"} {
		spec := namespaces.Spec(f.Mnt(), "x", []string{"true"})
		spec.Linux.Seccomp = denies(unix.EPERM, call)
		_, _, err := secondWith(t, f, spec, nil)
		if !errors.Is(err, unix.EPERM) || !strings.Contains(advice.Of(err), "seccomp profile") {
			t.Errorf("where %s is denied Join = %v, want EPERM, and advice", call, err)
		}
		if out, status, err := secondWith(t, f, spec, notTracing(t)); status != 0 || err != nil {
			t.Errorf("where nobody may trace, and %s is denied, it wrote %q and ended with %d, %v", call, out, status, err)
		}
	}
}

// Processes in the container may mount anything at /proc.
func TestOnlyTheProcOfItsPidNamespaceIsShared(t *testing.T) {
	f := testroot.Mount(t)
	for name, tt := range map[string]struct{ script, want string }{
		"its own":             {"true", "sh -c true"},
		"another file system": {"mount -t tmpfs none /proc", ""},
		"a part of it":        {"mount --bind /proc/sys /proc", ""},
		"a part like it":      {"mount --bind /proc/1/task /proc", ""},
		"nothing":             {"umount -l /proc", ""},
	} {
		first, err := create(t, f, sh(f, tt.script+"; exec sleep 1000"), terminal.Stdio{})
		if err != nil {
			t.Fatal(err)
		}
		defer first.Abort()
		if err := first.Start(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, fmt.Sprintf("/proc/%d/comm", first.Pid), "sleep")
		spec := sh(f, "cat /proc/1/comm; ls -d /proc/$$; readlink /proc/self/ns/pid")
		use(spec, specs.PIDNamespace, fmt.Sprintf("/proc/%d/ns/pid", first.Pid))
		var out bytes.Buffer
		second, err := create(t, f, spec, terminal.Stdio{Stdout: &out, Stderr: &out})
		if err != nil {
			if tt.want != "" {
				t.Errorf("%s: Create = %v", name, err)
			}
			continue
		}
		if tt.want == "" {
			t.Errorf("with %s at /proc, another container began", name)
		}
		if status, err := second.Run(); status != 0 || err != nil || !strings.HasPrefix(out.String(), "sleep\n/proc/") {
			t.Errorf("%s: Run = %d, %v, and it wrote %q", name, status, err, out.String())
		}
	}
}

func waitFor(t *testing.T, file, want string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		got, err := os.ReadFile(file)
		if strings.TrimSpace(string(got)) == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s has %q, %v, want %q", file, got, err, want)
		}
	}
}
