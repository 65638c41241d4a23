//go:build linux

package runtime_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/signal"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/runtime"
	"gocker/final/internal/seccomp"
	"gocker/step04-overlay/overlay"
	"gocker/step04-overlay/testroot"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/terminal"
)

// calls are some that filters deny, with a first argument that does no harm where they do not.
var calls = map[string][2]uintptr{
	"unshare": {unix.SYS_UNSHARE, unix.CLONE_NEWUSER}, "setns": {unix.SYS_SETNS, 1000}, "mount": {unix.SYS_MOUNT, 0},
	"pivot_root": {unix.SYS_PIVOT_ROOT, 0}, "bpf": {unix.SYS_BPF, 1000}, "keyctl": {unix.SYS_KEYCTL, 1000}, "add_key": {unix.SYS_ADD_KEY, 0},
	"perf_event_open": {unix.SYS_PERF_EVENT_OPEN, 0}, "userfaultfd": {unix.SYS_USERFAULTFD, 1000}, "io_uring_setup": {unix.SYS_IO_URING_SETUP, 0},
	"open_by_handle_at": {unix.SYS_OPEN_BY_HANDLE_AT, 1000}, "kexec_load": {unix.SYS_KEXEC_LOAD, 1}, "init_module": {unix.SYS_INIT_MODULE, 0},
	"swapon": {unix.SYS_SWAPON, 0}, "socket": {unix.SYS_SOCKET, unix.AF_ALG}, "getppid": {unix.SYS_GETPPID, 0},
}

// probe is this program in a container: it makes a call some times and prints the error numbers that it got. Meanwhile
// signals come, if it is told so.
func probe(name, times, signals string) {
	n, _ := strconv.Atoi(times)
	goruntime.LockOSThread()
	if signals == "signals" {
		came := make(chan os.Signal, 1)
		signal.Notify(came, unix.SIGUSR1)
		thread := unix.Gettid()
		go func() {
			for {
				unix.Tgkill(unix.Getpid(), thread, unix.SIGUSR1)
			}
		}()
		<-came
	}
	got := map[syscall.Errno]int{}
	for range n {
		_, _, errno := unix.Syscall6(calls[name][0], calls[name][1], 0, 0, 0, 0, 0)
		got[errno]++
	}
	for errno, n := range got {
		fmt.Printf("%d times %d\n", n, errno)
	}
}

// listen is this program in a container: it loads a filter that asks about getppid(2), answers a question of its own thread, and
// prints what the kernel said on the way.
func listen() {
	goruntime.LockOSThread()
	flags := uintptr(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER)
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, 0)
	fmt.Println("without a program:", unix.ErrnoName(errno))
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_GETPPID, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	listener, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(prog)))
	if errno != 0 {
		fmt.Println("with one:", unix.ErrnoName(errno))
		return
	}
	go func() { // on a thread that has no such filter
		var asked [80]byte   // struct seccomp_notif, which begins with its id
		var answer [3]uint64 // struct seccomp_notif_resp: id, val, error and flags
		unix.Syscall(unix.SYS_IOCTL, listener, unix.SECCOMP_IOCTL_NOTIF_RECV, uintptr(unsafe.Pointer(&asked)))
		answer[0], answer[1] = binary.NativeEndian.Uint64(asked[:]), 4242
		unix.Syscall(unix.SYS_IOCTL, listener, unix.SECCOMP_IOCTL_NOTIF_SEND, uintptr(unsafe.Pointer(&answer)))
	}()
	ppid, _, _ := unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
	_, _, errno = unix.RawSyscall(unix.SYS_UNSHARE, unix.CLONE_NEWUSER, 0, 0)
	fmt.Println("with one: its parent is", ppid, "and unshare says", unix.ErrnoName(errno))
}

func TestAProgramCanListenToAFilterOfItsOwn(t *testing.T) {
	f := testroot.Mount(t)
	filter := denies(unix.EPERM, "unshare")
	said, denied := runProbe(t, f, filter, "listen")
	want := runtime.Denial{Call: "seccomp", First: unix.SECCOMP_SET_MODE_FILTER, Errno: "EBUSY", Process: "probe", Pid: 1, Times: 1}
	if said != "without a program: EFAULT\nwith one: EBUSY" || !slices.Equal(denied, []runtime.Denial{want}) {
		t.Errorf("where gocker listens it said\n%s\nDenied = %+v, want %+v", said, denied, want)
	}
	filter.ListenerMetadata = seccomp.Unasked
	said, denied = runProbe(t, f, filter, "listen")
	if said != "without a program: EFAULT\nwith one: its parent is 4242 and unshare says EPERM" || len(denied) != 0 {
		t.Errorf("where gocker does not listen it said\n%s\nDenied = %+v", said, denied)
	}
}

// ask runs the probe in a container with a filter, and returns what it printed and what the filter denied.
func ask(t *testing.T, f *overlay.FS, filter *specs.LinuxSeccomp, arg ...string) (string, []runtime.Denial) {
	t.Helper()
	return runProbe(t, f, filter, append([]string{"probe"}, arg...)...)
}

func runProbe(t *testing.T, f *overlay.FS, filter *specs.LinuxSeccomp, arg ...string) (string, []runtime.Denial) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	spec := namespaces.Spec(f.Mnt(), "x", append([]string{"/tmp/probe"}, arg...))
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/tmp/probe", Type: "bind", Source: self, Options: []string{"bind", "ro"}})
	spec.Linux.Seccomp = filter
	var out bytes.Buffer
	p, err := create(t, f, spec, terminal.Stdio{Stdout: &out, Stderr: &out})
	if err != nil {
		t.Fatal(err)
	}
	if status, err := p.Run(); status != 0 || err != nil {
		t.Fatalf("Run = %d, %v, and it wrote %s", status, err, out.String())
	}
	return strings.TrimSpace(out.String()), p.Denied()
}

func denies(errno unix.Errno, names ...string) *specs.LinuxSeccomp {
	number := uint(errno)
	return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{Names: names, Action: specs.ActErrno, ErrnoRet: &number}}}
}

func TestDeniedCallIsNamed(t *testing.T) {
	f := testroot.Mount(t)
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			said, denied := ask(t, f, denies(unix.EACCES, name), name, "1", "")
			if want := fmt.Sprintf("1 times %d", unix.EACCES); said != want {
				t.Errorf("the process got %q, want %q", said, want)
			}
			want := runtime.Denial{Call: name, First: uint64(call[1]), Errno: "EACCES", Process: "probe", Pid: 1, Times: 1}
			if !slices.Contains(denied, want) {
				t.Errorf("Denied = %+v, want %+v", denied, want)
			}
		})
	}
}

func TestFilterThatDeniesByDefaultAsks(t *testing.T) {
	f := testroot.Mount(t)
	// All that a Go program needs, and not mount(2).
	filter := denies(0)
	filter.DefaultAction, filter.Syscalls = specs.ActErrno, []specs.LinuxSyscall{{Action: specs.ActAllow, Names: strings.Fields(`
		arch_prctl brk capget chdir clone clone3 close dup3 epoll_create1 epoll_ctl epoll_pwait eventfd2 execve exit exit_group
		faccessat2 fcntl fstat futex getcwd getegid geteuid getgid getpid getrandom getrlimit gettid getuid ioctl lseek madvise mmap
		mprotect mremap munmap nanosleep newfstatat openat pipe2 poll pread64 prctl prlimit64 read readlinkat restart_syscall rseq
		rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity sched_yield sendmsg set_robust_list set_tid_address setgid
		setgroups setuid sigaltstack statfs sysinfo tgkill uname write writev clock_gettime clock_nanosleep access faccessat
		readlink stat open`)}}
	said, denied := ask(t, f, filter, "mount", "3", "")
	if want := fmt.Sprintf("3 times %d", unix.EPERM); said != want {
		t.Errorf("the process got %q, want %q", said, want)
	}
	if len(denied) != 1 || denied[0].Call != "mount" || denied[0].Errno != "EPERM" || denied[0].Times != 3 {
		t.Errorf("Denied = %+v, want mount, EPERM, 3 times", denied)
	}

	number := uint(unix.ENOENT)
	filter.DefaultErrnoRet = &number
	said, denied = ask(t, f, filter, "mount", "1", "")
	if want := fmt.Sprintf("1 times %d", unix.ENOENT); said != want || len(denied) != 1 || denied[0].Errno != "ENOENT" {
		t.Errorf("the process got %q, want %q; Denied = %+v", said, want, denied)
	}

	// Without sendmsg nobody can be asked, and all else is the same.
	filter.DefaultErrnoRet = nil
	names := &filter.Syscalls[0].Names
	*names = slices.DeleteFunc(*names, func(name string) bool { return name == "sendmsg" })
	said, denied = ask(t, f, filter, "mount", "1", "")
	if want := fmt.Sprintf("1 times %d", unix.EPERM); said != want || len(denied) != 0 {
		t.Errorf("the process got %q, want %q; Denied = %+v, want none", said, want, denied)
	}
}

func TestAProfileThatDeniesEvenTheEndIsAnError(t *testing.T) {
	f := testroot.Mount(t)
	for name, filter := range map[string]*specs.LinuxSeccomp{
		"some calls":          denies(unix.EPERM, "execve", "write", "exit_group", "exit"),
		"some calls, unasked": denies(unix.ENOSYS, "execve", "write", "exit_group", "exit"),
		"nearly all calls":    {DefaultAction: specs.ActErrno, Syscalls: []specs.LinuxSyscall{{Names: []string{"getpid"}, Action: specs.ActAllow}}},
	} {
		t.Run(name, func(t *testing.T) {
			spec := namespaces.Spec(f.Mnt(), "x", []string{"true"})
			spec.Linux.Seccomp = filter
			p, err := create(t, f, spec, terminal.Stdio{})
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Start(); err == nil || errors.Is(err, namespaces.ErrNotFound) {
				t.Errorf("Start = %v, want the error of a call", err)
			}
			if sig := p.EndedBy(); sig != unix.SIGSEGV {
				t.Errorf("it ended by signal %d, want SIGSEGV", sig)
			}
		})
	}
}

func TestENOSYSIsNoDenial(t *testing.T) {
	f := testroot.Mount(t)
	said, denied := ask(t, f, denies(unix.ENOSYS, "getppid"), "getppid", "1", "")
	if want := fmt.Sprintf("1 times %d", unix.ENOSYS); said != want || len(denied) > 0 {
		t.Errorf("the process got %q, want %q; Denied = %+v, want none", said, want, denied)
	}
}

func TestSignalsDoNotChangeAnAnswer(t *testing.T) {
	var uts unix.Utsname
	if unix.Uname(&uts) == nil && unix.ByteSliceToString(uts.Release[:])[:2] == "5." {
		t.Skip("SKIPPED: kernels before 5.19 do not have SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV")
	}
	f := testroot.Mount(t)
	said, denied := ask(t, f, denies(unix.EACCES, "getppid"), "getppid", "200", "signals")
	if want := fmt.Sprintf("200 times %d", unix.EACCES); said != want {
		t.Errorf("the process got %q, want %q; Denied = %+v", said, want, denied)
	}
}

func TestWhatIsDeniedEndlesslyTakesNoMemory(t *testing.T) {
	f := testroot.Mount(t)
	// Programs of 40 names are denied the same call.
	spec := sh(f, `for i in $(seq 40); do cp /usr/bin/unshare /tmp/u$i; /tmp/u$i --user true; done 2>/dev/null; true`)
	spec.Linux.Seccomp = denies(unix.EPERM, "unshare")
	p, err := create(t, f, spec, terminal.Stdio{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(); err != nil {
		t.Fatal(err)
	}
	if denied := p.Denied(); len(denied) != 16 || denied[0].Process != "u1" {
		t.Errorf("Denied = %+v, want the first 16", denied)
	}
}

func TestWhoIsDeniedEndlesslyWaits(t *testing.T) {
	f := testroot.Mount(t)
	begin := time.Now()
	said, denied := ask(t, f, denies(unix.EPERM, "getppid"), "getppid", "1500", "")
	if said != "1500 times 1" || len(denied) != 1 || denied[0].Times != 1500 {
		t.Errorf("the process got %q; Denied = %+v", said, denied)
	}
	if took := time.Since(begin); took < 500*time.Millisecond { // the last 500 wait a millisecond each
		t.Errorf("1500 answers took %s", took)
	}
}

// Answers take gocker's time, which no limit of the container's counts.
func TestAStormOfDeniedCallsTakesLittleOfGocker(t *testing.T) {
	f := testroot.Mount(t)
	used := func() time.Duration {
		var usage unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
			t.Fatal(err)
		}
		return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	spec := sh(f, "for i in 1 2 3 4; do /tmp/probe probe getppid 1000 '' & done; wait")
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: "/tmp/probe", Type: "bind", Source: self, Options: []string{"bind", "ro"}})
	spec.Linux.Seccomp = denies(unix.EPERM, "getppid")
	begin, before := time.Now(), used()
	if out, status := output(t, f, spec); status != 0 {
		t.Fatalf("the probes ended with %d: %s", status, out)
	}
	took, own := time.Since(begin), used()-before
	t.Logf("4000 answers took %s, and %s of a processor", took, own)
	if took < 2*time.Second || own > took/4 { // the last 3000 wait a millisecond each
		t.Errorf("4000 answers took %s, and %s of a processor: want 3 s, and less than a quarter of a processor", took, own)
	}
}

func TestListenerEndsWithTheContainer(t *testing.T) {
	f := testroot.Mount(t)
	before := openFiles(t)
	for range 5 {
		spec := sh(f, "true")
		spec.Linux.Seccomp = denies(unix.EPERM, "unshare")
		output(t, f, spec)
	}
	for deadline := time.Now().Add(5 * time.Second); openFiles(t) > before; {
		if time.Now().After(deadline) {
			t.Fatalf("%d files are open, %d were before", openFiles(t), before)
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
