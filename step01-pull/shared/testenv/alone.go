//go:build linux

package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const stage = "GOCKER_TEST_STAGE"

// Alone runs the tests of a package in pid and mount namespaces of their own, and returns the exit status. So whatever ends
// them, SIGKILL too, takes with it all that they started, in the background too, and all that they mounted. Call it in TestMain,
// in the process that has the tests only.
//
//	this process        waits; if it is killed, so is
//	PID 1 in there      waits for all that have lost their parents, as processes that are not waited for seem to be alive
//	its child           runs the tests
func Alone(m *testing.M) int {
	switch os.Getenv(stage) {
	case "tests":
		os.Unsetenv(stage)
		return m.Run()
	case "init":
		return asInit()
	}
	if os.Geteuid() != 0 {
		return m.Run() // those that need root are skipped
	}
	for path := range leftCgroups() { // by tests that were killed
		os.Remove(path)
	}
	runtime.LockOSThread() // Pdeathsig means the thread that has started it
	cmd := again("init")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	if cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "tests in namespaces of their own:", err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}

// again is this program once more, with the same arguments.
func again(as string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), stage+"="+as)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}

func asInit() int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "tests in namespaces of their own:", err)
		return 1
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fail(err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fail(err)
	}
	cmd := again("tests")
	if err := cmd.Start(); err != nil {
		return fail(err)
	}
	for {
		var status unix.WaitStatus
		switch pid, err := unix.Wait4(-1, &status, 0, nil); {
		case err != nil && err != unix.EINTR:
			return fail(err)
		case pid == cmd.Process.Pid && status.Signaled():
			return 128 + int(status.Signal())
		case pid == cmd.Process.Pid:
			return status.ExitStatus()
		}
	}
}
