//go:build linux

package why_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"gocker/final/internal/describe"
	"gocker/final/internal/engine"
	"gocker/final/internal/life"
	"gocker/final/internal/logs"
	"gocker/final/internal/resources"
	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/testenv"
	"gocker/step06-cgroups/cgroups"
	"gocker/step06-cgroups/limits"
)

// In a container these tests are their own program: "probe" and one of these names.
var probes = map[string]func(args []string){
	"hog":  hog,
	"fork": fork,
	"call": call,
	"die":  die,
	"wait": func([]string) { select {} },
}

func TestMain(m *testing.M) {
	life.Monitor()
	life.WaitForExec()
	life.KeepTerminal()
	if len(os.Args) > 2 && os.Args[1] == "probe" {
		probes[os.Args[2]](os.Args[3:])
		os.Exit(0)
	}
	testenv.WithFolder() // the kernel's log has the host's numbers of processes
	os.Exit(m.Run())
}

// hog takes MiB of memory, of a kind: "anonymous", "shared", or in files of a tmpfs.
func hog(args []string) {
	mib, _ := strconv.Atoi(args[1])
	flags, fd := unix.MAP_PRIVATE|unix.MAP_ANON, -1
	switch args[0] {
	case "shared":
		flags = unix.MAP_SHARED | unix.MAP_ANON
	case "tmpfs":
		file, err := os.Create("/dev/shm/hog")
		if err != nil {
			panic(err)
		}
		for range mib {
			if _, err := file.Write(make([]byte, 1<<20)); err != nil {
				panic(err)
			}
		}
		return
	}
	for range mib {
		memory, err := unix.Mmap(fd, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, flags)
		if err != nil {
			panic(err)
		}
		for i := 0; i < len(memory); i += os.Getpagesize() {
			memory[i] = 1
		}
	}
}

// fork makes processes until it may not, and ends with status 9 if that happened. Go itself may be the first that needs a
// thread too many, and ends with another.
func fork(args []string) {
	runtime.LockOSThread()
	n, _ := strconv.Atoi(args[0])
	for range n {
		pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if errno != 0 {
			unix.Exit(9)
		}
		if pid == 0 {
			for {
				unix.RawSyscall6(unix.SYS_PPOLL, 0, 0, 0, 0, 0, 0)
			}
		}
	}
}

var calls = map[string][]uintptr{
	"unshare": {unix.SYS_UNSHARE, unix.CLONE_NEWUSER}, "setns": {unix.SYS_SETNS, 1000}, "mount": {unix.SYS_MOUNT},
	"umount2": {unix.SYS_UMOUNT2}, "pivot_root": {unix.SYS_PIVOT_ROOT}, "bpf": {unix.SYS_BPF, 1000}, "keyctl": {unix.SYS_KEYCTL, 1000},
	"add_key": {unix.SYS_ADD_KEY}, "perf_event_open": {unix.SYS_PERF_EVENT_OPEN}, "userfaultfd": {unix.SYS_USERFAULTFD, 1000},
	"io_uring_setup": {unix.SYS_IO_URING_SETUP}, "open_by_handle_at": {unix.SYS_OPEN_BY_HANDLE_AT, 1000}, "swapon": {unix.SYS_SWAPON},
	"init_module": {unix.SYS_INIT_MODULE}, "sethostname": {unix.SYS_SETHOSTNAME, 0, 1 << 20}, "clock_settime": {unix.SYS_CLOCK_SETTIME, 1000},
	"reboot": {unix.SYS_REBOOT}, "acct": {unix.SYS_ACCT, 1},
	wantsListener: {unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, 1}, // of a filter that is nowhere
}

const wantsListener = "seccomp"

// call makes a system call, and ends with its error number.
func call(args []string) {
	var all [7]uintptr
	copy(all[:], calls[args[0]])
	_, _, errno := unix.Syscall6(all[0], all[1], all[2], all[3], all[4], all[5], all[6])
	unix.Exit(int(errno))
}

// die makes the kernel end it. Go has handlers for these signals, so they are taken away.
func die(args []string) {
	runtime.LockOSThread()
	byDefault := new([4]uint64) // a struct sigaction with SIG_DFL, which is 0
	for _, sig := range []syscall.Signal{unix.SIGSEGV, unix.SIGBUS} {
		unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(byDefault)), 0, 8, 0, 0)
	}
	file, protection := -1, map[string]int{"no access": unix.PROT_NONE, "read-only": unix.PROT_READ, "no file behind it": unix.PROT_WRITE}[args[0]]
	flags := unix.MAP_PRIVATE | unix.MAP_ANON
	if args[0] == "no file behind it" {
		empty, err := os.Create("/tmp/empty")
		if err != nil {
			panic(err)
		}
		file, flags = int(empty.Fd()), unix.MAP_SHARED
	}
	memory, err := unix.Mmap(file, 0, os.Getpagesize(), protection, flags)
	if err != nil {
		panic(err)
	}
	memory[0] = 1
}

// An ended container, and what why must say of it.
type planted struct {
	name    string
	limits  limits.Limits
	args    []string // of the probe, or, if the first one is "sh", a command
	change  func(*describe.Options)
	meddle  func(t *testing.T, e engine.Engine, id string, pid int) // while it runs, in the background
	verdict string
	reasons []string
	named   []string // by the kernel's log only
}

// ask runs each fault in a container of its own.
func ask(t *testing.T, faults []planted) {
	testenv.NeedRoot(t)
	e := engine.Engine{Dirs: testenv.Dirs(t)}
	ref, err := pull.ParseReference(pull.Sample)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range faults {
		t.Run(tt.name, func(t *testing.T) {
			opts := describe.Options{Image: ref, Limits: describe.Limits{Limits: resources.Limits{Limits: tt.limits}}, Args: tt.args, Mounts: describe.Mounts{Volumes: []string{self + ":/probe:ro"}}}
			if tt.args[0] != "sh" {
				opts.Args = append([]string{"/probe", "probe"}, tt.args...)
			}
			if tt.change != nil {
				tt.change(&opts)
			}
			t.Cleanup(func() {
				states, _ := e.Containers().List()
				for _, s := range states {
					if err := e.Life().Remove(s.ID, life.RmOptions{Force: true, Volumes: true}); err != nil {
						t.Error(err)
					}
				}
			})
			id, out := "", &bytes.Buffer{}
			if tt.meddle == nil {
				id, opts.Name = "planted", "planted"
				_, err = e.Life().Run(opts, life.AttachOptions{SigProxy: true}, life.Streams{Stdout: out, Stderr: out}, t.Logf, nil)
			} else if id, err = e.Life().Detach(opts, t.Logf, nil); err == nil {
				id = dirs.Short(id) // its folder's name
				tt.meddle(t, e, id, pidOf(t, e, id))
				_, err = e.Life().Wait(id, life.WaitStopped)
			}
			if err != nil {
				t.Fatal(err)
			}
			answer, err := e.Look().Why(id)
			if err != nil {
				t.Fatal(err)
			}
			all := fmt.Sprintf("%+v", answer)
			if !strings.Contains(answer.Verdict, tt.verdict) {
				t.Errorf("Why says %q, want %q in it\n%s\n%s", answer.Verdict, tt.verdict, all, out)
			}
			if tt.named != nil && isInLog(t, e) {
				tt.reasons = append(tt.reasons, tt.named...)
			}
			for _, part := range tt.reasons {
				if !strings.Contains(all, part) {
					t.Errorf("Why does not name %q:\n%s\n%s", part, all, out)
				}
			}
		})
	}
}

// isInLog tells whether the kernel's log has who was killed in the only container. Of all the machine it has ten such
// messages in five seconds.
func isInLog(t *testing.T, e engine.Engine) bool {
	t.Helper()
	states, err := e.Containers().List()
	if err != nil || len(states) != 1 {
		t.Fatalf("Ps = %v, %v; want one container", states, err)
	}
	log, _ := exec.Command("dmesg").Output() // nothing, if nobody may read it
	return regexp.MustCompile("oom-kill:.*/gocker-" + states[0].ID).Match(log)
}

func pidOf(t *testing.T, e engine.Engine, id string) int {
	t.Helper()
	states, err := e.Containers().List()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range states {
		if s.ID == id {
			return s.Pid
		}
	}
	t.Fatalf("container %s is not there", id)
	return 0
}

func memory(limit string) limits.Limits { return limits.Limits{Memory: limit} }

func TestMemoryLimitIsNamed(t *testing.T) {
	const killed = "killed by the memory limit"
	ask(t, []planted{
		{name: "the first process", limits: memory("32m"), args: []string{"hog", "anonymous", "200"}, verdict: "status 137: " + killed, named: []string{"the kernel killed probe", "which was its first process"}, reasons: []string{"its limit is 32MiB", "the most it used "}},
		{name: "shared memory", limits: memory("24m"), args: []string{"hog", "shared", "200"}, verdict: killed, reasons: []string{"its limit is 24MiB"}},
		{name: "files in memory", limits: memory("20m"), args: []string{"hog", "tmpfs", "60"}, verdict: killed, reasons: []string{"its limit is 20MiB"}},
		{name: "a child of a shell that goes on", limits: memory("32m"), args: []string{"sh", "-c", "/probe probe hog anonymous 200; exit 3"}, verdict: "status 3, after a process in it was " + killed, named: []string{"the kernel killed probe"}, reasons: []string{"32MiB"}},
		{name: "a child of a shell that says so", limits: memory("32m"), args: []string{"sh", "-c", "/probe probe hog anonymous 200"}, verdict: "status 137", named: []string{"the kernel killed probe"}, reasons: []string{"32MiB"}},
		{name: "a command in a pipe", limits: memory("16m"), args: []string{"sh", "-c", "tail /dev/zero | cat"}, verdict: "status 0, after a process in it was " + killed, named: []string{"the kernel killed tail"}, reasons: []string{"16MiB"}},
		{name: "tail", limits: memory("40m"), args: []string{"sh", "-c", "exec tail /dev/zero"}, verdict: "status 137: " + killed, named: []string{"the kernel killed tail"}, reasons: []string{"40MiB"}},
		{name: "the least limit", limits: memory("6m"), args: []string{"sh", "-c", "exec tail /dev/zero"}, verdict: killed, reasons: []string{"6MiB"}},
		{name: "two of them", limits: memory("16m"), args: []string{"sh", "-c", "tail /dev/zero; tail /dev/zero; exit 1"}, verdict: "status 1, after a process in it was " + killed, named: []string{"the kernel killed tail"}, reasons: []string{"16MiB"}},
		{name: "a process in the background", limits: memory("16m"), args: []string{"sh", "-c", "tail /dev/zero & wait; exit 4"}, verdict: "status 4, after a process in it was " + killed, reasons: []string{"16MiB"}},
		{name: "another user", limits: memory("16m"), args: []string{"sh", "-c", "exec tail /dev/zero"}, change: func(o *describe.Options) { o.User = "guest" }, verdict: killed, reasons: []string{"16MiB"}},
		{name: "of a cgroup above", args: []string{"sh", "-c", "exec tail /dev/zero"}, change: below(t, memory("16m")), verdict: "killed by the memory limit of a cgroup above, ", reasons: []string{"has a limit of 16MiB for all that is in it", "raise the limit there"}},
		{name: "of a cgroup above, and a larger one of its own", limits: memory("64m"), args: []string{"sh", "-c", "exec tail /dev/zero"}, change: below(t, memory("16m")), verdict: "a cgroup above, ", reasons: []string{"has a limit of 16MiB", "its limit is 64MiB"}},
		{name: "its own, and a larger one of a cgroup above", limits: memory("16m"), args: []string{"sh", "-c", "exec tail /dev/zero"}, change: below(t, memory("64m")), verdict: "status 137: " + killed, reasons: []string{"16MiB"}},
		{name: "in the background", limits: memory("16m"), args: []string{"sh", "-c", "exec tail /dev/zero"}, meddle: func(*testing.T, engine.Engine, string, int) {}, verdict: killed, reasons: []string{"16MiB"}},
	})
}

// below has a container made in a cgroup that has limits, too.
func below(t *testing.T, limits limits.Limits) func(*describe.Options) {
	testenv.NeedRoot(t)
	r, err := limits.Resources()
	if err != nil {
		t.Fatal(err)
	}
	parents++
	name := fmt.Sprintf("/gocker-why-%s-%d", filepath.Base(os.TempDir()), parents)
	parent, err := cgroups.New(nil, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cgroups.Remove(parent); err != nil {
			t.Error(err)
		}
	})
	if err := cgroups.Set(parent, cgroups.Settings(r)); err != nil {
		t.Fatal(err)
	}
	return func(o *describe.Options) { o.Limits.CgroupParent = name }
}

var parents int

func TestLimitOfProcessesIsNamed(t *testing.T) {
	var faults []planted
	for _, limit := range []int64{5, 8, 10, 12, 15, 20, 25, 30} {
		faults = append(faults, planted{
			name: fmt.Sprintf("forks, at %d", limit), limits: limits.Limits{Pids: limit}, args: []string{"fork", "100"},
			verdict: "after the limit of processes was reached", reasons: []string{fmt.Sprintf("its limit is %d (--pids-limit; pids.max)", limit)},
		})
	}
	ask(t, append(faults,
		planted{name: "a shell", limits: limits.Limits{Pids: 6}, args: []string{"sh", "-c", "i=0; while [ $i -lt 20 ]; do sleep 60 & i=$((i+1)); done"}, verdict: "after the limit of processes was reached", reasons: []string{"its limit is 6"}},
		planted{name: "a pipe", limits: limits.Limits{Pids: 2}, args: []string{"sh", "-c", "cat /dev/null | cat | cat | cat; exit 3"}, verdict: "after the limit of processes was reached", reasons: []string{"its limit is 2"}},
		planted{name: "one that copes", limits: limits.Limits{Pids: 4}, args: []string{"sh", "-c", "(/probe probe fork 50); exit 0"}, verdict: "status 0", reasons: []string{"its limit is 4"}},
		planted{name: "of a cgroup above", args: []string{"fork", "100"}, change: below(t, limits.Limits{Pids: 25}), verdict: "after the limit of processes of a cgroup above, ", reasons: []string{"above, has a limit of 25 for all that is in it", "raise it there"}},
		planted{name: "of a cgroup above, and a larger one of its own", limits: limits.Limits{Pids: 60}, args: []string{"fork", "100"}, change: below(t, limits.Limits{Pids: 25}), verdict: "of a cgroup above, ", reasons: []string{"has a limit of 25"}},
		planted{name: "its own, and a larger one of a cgroup above", limits: limits.Limits{Pids: 25}, args: []string{"fork", "100"}, change: below(t, limits.Limits{Pids: 60}), verdict: "after the limit of processes was reached", reasons: []string{"its limit is 25"}},
		planted{name: "in the background", limits: limits.Limits{Pids: 7}, args: []string{"fork", "100"}, meddle: func(*testing.T, engine.Engine, string, int) {}, verdict: "after the limit of processes was reached", reasons: []string{"its limit is 7"}},
	))
}

func TestDeniedSystemCallIsNamed(t *testing.T) {
	var faults []planted
	for name := range calls {
		if name == wantsListener {
			continue
		}
		faults = append(faults, planted{name: name, args: []string{"call", name}, verdict: "status 1, after the seccomp filter denied a system call", // EPERM
			reasons: []string{"the seccomp filter denied " + name + "(", "to probe (process 1 in there) with EPERM"}})
	}
	ask(t, append(faults,
		planted{name: "by a child", args: []string{"sh", "-c", "unshare --user true; exit 5"}, verdict: "status 5", reasons: []string{"denied unshare(0x10000000, …) to unshare", "EPERM"}},
		planted{name: "in the background", args: []string{"call", "mount"}, meddle: func(*testing.T, engine.Engine, string, int) {}, verdict: "seccomp", reasons: []string{"denied mount("}},
		planted{name: "a listener", args: []string{"call", wantsListener}, verdict: "status 16, after the seccomp filter denied a system call", // EBUSY
			reasons: []string{"denied seccomp(0x1, …) to probe (process 1 in there) with EBUSY", "--security-opt no-listener"}},
		planted{name: "a listener, where gocker does not listen", args: []string{"call", wantsListener}, verdict: "status 14", // EFAULT
			change: func(o *describe.Options) { o.Isolation.SecurityOpts = []string{"no-listener"} }},
		planted{name: "by one that copes", args: []string{"sh", "-c", "unshare --user true; true"}, verdict: "status 0", reasons: []string{"denied unshare("}},
	))
}

// signalTo sends one as somebody on the host would.
func signalTo(sig syscall.Signal) func(*testing.T, engine.Engine, string, int) {
	return func(t *testing.T, _ engine.Engine, _ string, pid int) {
		t.Helper()
		if err := unix.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSignalIsNamed(t *testing.T) {
	kill := func(signal string) func(*testing.T, engine.Engine, string, int) {
		return func(t *testing.T, e engine.Engine, id string, _ int) {
			t.Helper()
			if err := e.Life().Kill(id, signal); err != nil {
				t.Fatal(err)
			}
		}
	}
	stop := func(seconds int) func(*testing.T, engine.Engine, string, int) {
		return func(t *testing.T, e engine.Engine, id string, _ int) {
			t.Helper()
			if err := e.Life().Stop(id, life.StopOptions{Seconds: &seconds}); err != nil {
				t.Fatal(err)
			}
		}
	}
	sleep := []string{"sh", "-c", "exec sleep 1000"}
	trap := func(sig string) []string {
		return []string{"sh", "-c", "trap 'exit 5' " + sig + "; echo ready; while :; do sleep 0.05; done"}
	}
	ready := func(then func(*testing.T, engine.Engine, string, int)) func(*testing.T, engine.Engine, string, int) {
		return func(t *testing.T, e engine.Engine, id string, pid int) {
			t.Helper()
			for wrote := new(bytes.Buffer); !strings.Contains(wrote.String(), "ready"); wrote.Reset() {
				if err := e.Look().Logs(id, logs.Options{Tail: -1}, wrote, io.Discard, t.Logf); err != nil {
					t.Fatal(err)
				}
				if strings.Contains(wrote.String(), "ready") {
					break
				}
			}
			then(t, e, id, pid)
		}
	}
	kills := filepath.Join(t.TempDir(), "kills.json")
	profile := `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_KILL_PROCESS"}]}`
	if err := os.WriteFile(kills, []byte(profile), 0o644); err != nil {
		t.Fatal(err)
	}
	ask(t, []planted{
		{name: "gocker kill", args: sleep, meddle: kill("KILL"), verdict: "status 137: killed by SIGKILL, which gocker kill sent"},
		{name: "gocker kill, by number", args: sleep, meddle: kill("9"), verdict: "killed by SIGKILL, which gocker kill sent"},
		{name: "gocker stop, and it has no handler", args: sleep, meddle: stop(1), verdict: "killed by SIGKILL, which gocker stop, after 1s, sent", reasons: []string{"gocker stop sent SIGTERM", "it did not end by SIGTERM", "--init"}},
		{name: "kill -9 from the host", args: sleep, meddle: signalTo(unix.SIGKILL), verdict: "killed by a signal from outside, SIGKILL", reasons: []string{"gocker did not send it", "systemd-oomd"}},
		{name: "kill -9 from the host, with a memory limit", limits: memory("32m"), args: sleep, meddle: signalTo(unix.SIGKILL), verdict: "killed by a signal from outside, SIGKILL"},
		{name: "memory that it may not touch", args: []string{"die", "no access"}, verdict: "status 139: its first process broke down, SIGSEGV"},
		{name: "memory that it may not write", args: []string{"die", "read-only"}, verdict: "its first process broke down, SIGSEGV"},
		{name: "a file that is shorter than its map", args: []string{"die", "no file behind it"}, verdict: "status 135: its first process broke down, SIGBUS"},
		{name: "a call that the filter kills for", args: []string{"call", "sethostname"}, change: func(o *describe.Options) { o.Isolation.SecurityOpts = []string{"seccomp=" + kills} }, verdict: "killed by the seccomp filter"},
		{name: "gocker stop, and it has a handler", args: trap("TERM"), meddle: ready(stop(60)), verdict: "status 5, after gocker stop sent SIGTERM"},
		{name: "gocker kill, and it has a handler", args: trap("HUP"), meddle: ready(kill("HUP")), verdict: "status 5, after gocker kill sent SIGHUP"},
		{name: "a child, by SIGKILL", args: []string{"sh", "-c", "sh -c 'kill -9 $$'"}, verdict: "status 137: its first process says so of one that SIGKILL ended"},
		{name: "a child, by SIGTERM", args: []string{"sh", "-c", "sh -c 'kill $$'"}, verdict: "status 143: its first process says so of one that SIGTERM ended"},
		{name: "a child, by SIGSEGV", args: []string{"sh", "-c", "sh -c 'kill -SEGV $$'"}, verdict: "status 139: its first process says so of one that SIGSEGV ended"},
		{name: "its gocker is killed", args: sleep, meddle: func(t *testing.T, e engine.Engine, id string, _ int) {
			states, err := e.Containers().List()
			if err != nil || len(states) != 1 {
				t.Fatal(states, err)
			}
			if err := unix.Kill(states[0].Monitor, unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}, verdict: "was killed with the gocker that ran it"},
	})
}

func TestOwnStatusIsNamed(t *testing.T) {
	var faults []planted
	for _, status := range []int{0, 1, 2, 3, 7, 42, 100, 125, 255} {
		faults = append(faults, planted{name: fmt.Sprint("status ", status), args: []string{"sh", "-c", fmt.Sprint("exit ", status)}, verdict: fmt.Sprintf("status %d, by itself", status)})
	}
	ask(t, append(faults,
		planted{name: "a shell that does not find a command", args: []string{"sh", "-c", "no-such-command"}, verdict: "status 127, by itself", reasons: []string{"end with 127 if they do not find a command"}},
		planted{name: "a shell that cannot execute a file", args: []string{"sh", "-c", "/etc/passwd"}, verdict: "status 126, by itself", reasons: []string{"end with 126"}},
		planted{name: "what it wrote last", args: []string{"sh", "-c", "echo no such database >&2; exit 1"}, meddle: func(*testing.T, engine.Engine, string, int) {}, verdict: "status 1, by itself", reasons: []string{"no such database"}},
	))
}

// A script whose first line is right for the kernel, and wrong for env.
func TestScriptIsNamedWhoseInterpreterIsNotFound(t *testing.T) {
	dir := t.TempDir()
	var faults []planted
	for name, tt := range map[string]struct{ line, reason string }{
		"env, and CR LF":            {"#!/usr/bin/env sh\r", "ends with CR LF"},
		"env, and what is not here": {"#!/usr/bin/env no-such-interpreter", `is there a "no-such-interpreter" in the image`},
	} {
		file := dir + "/" + strings.ReplaceAll(name, " ", "-")
		if err := os.WriteFile(file, []byte(tt.line+"\necho hello\r\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		faults = append(faults, planted{name: name, args: []string{"sh"}, change: func(o *describe.Options) {
			o.Args = []string{"/app"}
			o.Mounts.Volumes = append(o.Mounts.Volumes, file+":/app:ro")
		}, verdict: "status 127, by itself", reasons: []string{tt.reason, strconv.Quote(tt.line)}})
	}
	ask(t, faults)
}
