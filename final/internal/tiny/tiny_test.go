//go:build linux

package tiny_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gocker/final/internal/tiny"
	"gocker/step01-pull/shared/testenv"
)

func TestMain(m *testing.M) {
	testenv.DefaultSignals()
	os.Exit(m.Run())
}

func program(t *testing.T, code []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "init")
	if err := os.WriteFile(name, code, 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestItEndsAsItsCommandDoes(t *testing.T) {
	name := program(t, tiny.Init())
	for _, tt := range []struct {
		args   []string
		status int
		prints string
	}{
		{[]string{"/bin/sh", "sh", "-c", "echo $0 $1 $A", "zero", "one"}, 0, "zero one a\n"},
		{[]string{"/bin/sh", "sh", "-c", "exit 7"}, 7, ""},
		{[]string{"/bin/sh", "sh", "-c", "exit 255"}, 255, ""},
		{[]string{"/bin/sh", "sh", "-c", "kill -9 $$"}, 128 + 9, ""},
		{[]string{"/bin/sh", "sh", "-c", "grep -E 'SigBlk|SigIgn' /proc/self/status"}, 0, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"},
		{[]string{"/no/such/file", "x"}, 127, "gocker: cannot execute\n"},
		{[]string{"/etc/passwd", "x"}, 126, "gocker: cannot execute\n"},
	} {
		cmd := exec.Command(name, tt.args...)
		cmd.Env = append(os.Environ(), "A=a")
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if got := cmd.ProcessState.ExitCode(); got != tt.status || string(out) != tt.prints {
			t.Errorf("%q ended with %d and %q, want %d and %q", tt.args, got, out, tt.status, tt.prints)
		}
	}
}

func TestItPassesSignalsOn(t *testing.T) {
	cmd := exec.Command(program(t, tiny.Init()), "/bin/sh", "sh", "-c", `trap "exit 3" TERM; echo ready; while :; do sleep 0.01; done`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != 3 {
		t.Errorf("after SIGTERM it ended with %d, want the 3 of its command", got)
	}
}

// What it costs: one process, and a few pages.
func TestItIsSmall(t *testing.T) {
	if got := len(tiny.Init()); got > 1024 {
		t.Errorf("the program has %d bytes, want at most 1024", got)
	}
	out, err := exec.Command(program(t, tiny.Init()), "/bin/sh", "sh", "-c", "cat /proc/$PPID/status").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	m := regexp.MustCompile(`(?s)VmRSS:\s+(\d+) kB.*Threads:\s+(\d+)`).FindSubmatch(out)
	if m == nil || !bytes.Equal(m[2], []byte("1")) || len(m[1]) > 2 {
		t.Errorf("it has %q kB and %q threads, want less than 100, and 1", m[1], m[2])
	}
	t.Logf("%d bytes, %s kB of memory", len(tiny.Init()), m[1])
}

// Guard is started with its end of a socket, and gets the pidfd of a process later.
func TestGuardKillsWhenNobodyHoldsIt(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(pair[0]), "theirs")
	defer theirs.Close()
	guard := exec.Command(program(t, tiny.Guard()))
	guard.Stdin = theirs
	guarded := exec.Command("sleep", "1000")
	for _, cmd := range []*exec.Cmd{guard, guarded} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Process.Kill()
	}
	pidfd, err := unix.PidfdOpen(guarded.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	if err := unix.Sendmsg(pair[1], []byte{0}, unix.UnixRights(pidfd), nil, 0); err != nil {
		t.Fatal(err)
	}
	unix.Close(pair[1])
	guarded.Wait()
	if got := guarded.ProcessState.Sys().(syscall.WaitStatus).Signal(); got != syscall.SIGKILL {
		t.Errorf("it ended by %v, want by SIGKILL", got)
	}
	if err := guard.Wait(); err != nil {
		t.Errorf("Guard: %v", err)
	}
}

func TestGuardOfNobodyEnds(t *testing.T) {
	guard := exec.Command(program(t, tiny.Guard())) // its file 0 is no socket
	if err := guard.Run(); err != nil {
		t.Errorf("Guard: %v", err)
	}
}

// runChild runs Child, tells its child to go on, and returns what they say over the socket, and what they write.
func runChild(t *testing.T, calls ...tiny.Call) (reports [][4]uint32, out string) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs, ours := os.NewFile(uintptr(pair[0]), "theirs"), os.NewFile(uintptr(pair[1]), "ours")
	defer ours.Close()
	const socket = 3
	var said bytes.Buffer
	cmd := exec.Command(program(t, tiny.Child(socket, 100, calls)))
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stdout = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	for {
		var r [4]uint32
		if err := binary.Read(ours, binary.NativeEndian, &r); err != nil {
			break
		}
		reports = append(reports, r)
		ours.Write([]byte{1})
	}
	cmd.Wait() // also for the output of its child
	return reports, said.String()
}

func TestChildBecomesTheCommand(t *testing.T) {
	args, env := []string{"sh", "-c", "echo $0 $1 $A $PPID", "zero", "one"}, []string{"A=a", "PATH=/bin"}
	execve := func(path string, special int) tiny.Call {
		return tiny.Call{Number: unix.SYS_EXECVE, Args: []any{path, args, env}, Special: special}
	}
	clone := tiny.Call{Number: unix.SYS_CLONE, Args: []any{int(unix.SIGCHLD)}, Special: tiny.Begets}
	wait := tiny.Call{Number: unix.SYS_READ, Args: []any{3, 0, 1}, Special: tiny.Waits}
	for name, tt := range map[string]struct {
		calls []tiny.Call
		want  []uint32 // what is said, but for the number of the child
		out   string
	}{
		"the second file is it":     {[]tiny.Call{execve("/no/such/file", tiny.OrNext), execve("/bin/sh", 0)}, nil, "zero one a"},
		"there is none":             {[]tiny.Call{execve("/no/such/file", tiny.OrNext), execve("/no/other", 0)}, []uint32{102, 2, 1}, ""},
		"one may not be executed":   {[]tiny.Call{execve("/no/such", tiny.OrNext), execve("/etc/passwd", tiny.OrNext), execve("/no/other", 0)}, []uint32{103, 13, 1}, ""},
		"a call fails before":       {[]tiny.Call{{Number: unix.SYS_CLOSE, Args: []any{1000}}, execve("/bin/sh", 0)}, []uint32{102, 9, 1}, ""},
		"it was only a try":         {[]tiny.Call{{Number: unix.SYS_CLOSE, Args: []any{1000}, Special: tiny.Tries}, execve("/bin/sh", 0)}, nil, "zero one a"},
		"what fails for good is it": {[]tiny.Call{execve("/etc/passwd/x", tiny.OrNext), execve("", tiny.OrNext), execve("/proc/self/mem", 0)}, []uint32{104, 13, 1}, ""},
	} {
		reports, out := runChild(t, append([]tiny.Call{clone, wait}, tt.calls...)...)
		if len(reports) == 0 || reports[0][3] == 0 || reports[0][2] != 0 {
			t.Errorf("%s: it says %v, want its child's number first", name, reports)
			continue
		}
		var said []uint32
		for _, r := range reports[1:] {
			said = append(said, r[:3]...)
		}
		if !slices.Equal(said, tt.want) || !strings.HasPrefix(out, tt.out) {
			t.Errorf("%s: its child says %v and writes %q, want %v and %q", name, said, out, tt.want, tt.out)
		}
	}
	reports, _ := runChild(t, tiny.Call{Number: unix.SYS_CLONE, Args: []any{unix.CLONE_THREAD}, Special: tiny.Begets})
	if len(reports) != 1 || reports[0] != [4]uint32{100, 22, 1, 0} {
		t.Errorf("where clone fails it says %v, want EINVAL", reports)
	}
}
