//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/seccomp"
	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/testenv"
	"gocker/step04-overlay/check"
)

// TestMain is gocker itself where a test wants that, or what runs in a container.
func TestMain(m *testing.M) {
	switch os.Getenv("BE") {
	case "gocker":
		main()
	case "probe":
		fmt.Println(probe(os.Args[1:]))
		os.Exit(0)
	case "command":
		fmt.Println("hello")
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
	testenv.Alone()
	os.Exit(m.Run())
}

// A process that has opened /proc/{pid}/exe can open it anew when nobody executes the file any more, also for writing. The command
// of this container is what executes it: gocker.
func TestGockersFileCannotBeWrittenThroughAProcessOfAContainer(t *testing.T) {
	testenv.NeedRoot(t)
	t.Run("that executes another", func(t *testing.T) { attackOwnFile(t, (*exec.Cmd).Start) })
	t.Run("where gocker executes another", func(t *testing.T) { attackOwnFile(t, startWithoutChange) })
}

func attackOwnFile(t *testing.T, start func(*exec.Cmd) error) {
	d := testenv.Dirs(t)
	// A copy: this program is executed as long as it tests.
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	gocker, script := filepath.Join(folder, "gocker"), filepath.Join(folder, "script")
	for name, content := range map[string][]byte{gocker: program, script: []byte("#!/proc/self/exe\n")} {
		if err := os.WriteFile(name, content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(gocker, "run", "--rm", "-i", "--name", "attack", "-v", script+":/script", "-e", "BE=command", "sample", "/script")
	cmd.Env = append(os.Environ(), "BE=gocker", "GOCKER_ROOT="+d.Root, "GOCKER_RUN="+d.Run)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := start(cmd); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer stdin.Close()
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "hello\n" {
		t.Fatalf("gocker in the container said %q, %v", line, err)
	}
	var state specs.State
	if err := dirs.ReadJSON(filepath.Join(d.Run, "names", "attack", "state.json"), &state); err != nil {
		t.Fatal(err)
	}
	exe, err := unix.Open(fmt.Sprintf("/proc/%d/exe", state.Pid), unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(exe)
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	again, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", exe), os.O_WRONLY, 0)
	if !errors.Is(err, unix.EROFS) {
		t.Errorf("open gocker's file for writing, through a process = %v, %v, want EROFS", again, err)
	}
	// The file itself is as it was: it can be replaced by a newer one.
	if own, err := os.OpenFile(gocker, os.O_WRONLY, 0); err != nil {
		t.Errorf("open gocker's file by its name = %v", err)
	} else {
		own.Close()
	}
}

// startWithoutChange starts a program for which PR_SET_MM is as with a kernel that does not have it.
func startWithoutChange(cmd *exec.Cmd) error {
	filter, err := seccomp.Compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{{
		Names: []string{"prctl"}, Action: specs.ActErrno,
		Args: []specs.LinuxSeccompArg{{Index: 0, Op: specs.OpEqualTo, Value: unix.PR_SET_MM}},
	}}})
	if err != nil {
		return err
	}
	return check.OnThread(func() error { // with it the filter goes
		program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return err
		}
		if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
			return err
		}
		return cmd.Start()
	})
}
