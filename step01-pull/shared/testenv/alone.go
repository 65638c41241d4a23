//go:build linux

package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const stage = "GOCKER_TEST_STAGE"

// Alone runs the tests of a package in pid, mount and network namespaces and a folder of their own. So whatever ends them, SIGKILL too,
// takes with it all that they started, in the background too, all that they mounted, and their cgroups and files. Call it in
// TestMain, in the process that has the tests only: it returns in the one that is to run them.
//
//	this process        waits; if go test is killed, so is this one, and then the next two
//	PID 1 in there      waits for all that have lost their parents, as processes that are not waited for seem to be alive
//	its child           runs the tests
//	another one         waits for the end of this process, and removes what is left
//
// The network namespace stands for the host: the machine's own network stays as it is.
func Alone() { alone("init", unix.CLONE_NEWPID|unix.CLONE_NEWNS|unix.CLONE_NEWNET) }

// WithFolder is Alone without the namespaces for pids and mounts.
func WithFolder() { alone("tests", unix.CLONE_NEWNET) }

func alone(next string, namespaces uintptr) {
	fail := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "tests in namespaces of their own:", err)
			os.Exit(1)
		}
	}
	switch os.Getenv(stage) {
	case "tests": // or started by tests, and so in there already
		upLoopback()
		return
	case "init":
		status, err := asInit()
		fail(err)
		os.Exit(status)
	case "remover":
		os.Stdin.Read(make([]byte, 1)) // the file ends when the process with the other end of the pipe does
		removeAll(os.Args[1])
		os.Exit(0)
	}
	if os.Geteuid() != 0 {
		AsRootInside()
		return // the tests that need root are skipped
	}
	runtime.LockOSThread() // Pdeathsig means the thread that has started it
	fail(unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0))
	// A short name: sockets and podman's folders may have no long ones.
	folder, err := os.MkdirTemp("", "gt")
	fail(err)
	fail(os.Chmod(folder, 0o755)) // other users are tried, too

	reader, writer, err := os.Pipe() // both ends are closed in what is executed, but as its stdin
	fail(err)
	remover := again("remover", folder)
	remover.Stdin = reader
	remover.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // Ctrl-C does not mean it
	fail(remover.Start())
	reader.Close()

	cmd := again(next, os.Args[1:]...)
	cmd.Env = append(cmd.Env, "TMPDIR="+folder)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	writer.Close()
	remover.Wait()
	if cmd.ProcessState == nil {
		fail(err)
	}
	os.Exit(cmd.ProcessState.ExitCode())
}

// AsRootInside executes this program once more, in a user and a mount namespace of the ordinary user who has started it: in there most tests
// that need root run. Alone does it, too. For root it does nothing. It returns where that cannot be done, as unshare(1) is older than 2.38, or the user has no other ids.
func AsRootInside() {
	unshare, err := exec.LookPath("unshare")
	if err != nil || os.Geteuid() == 0 {
		return
	}
	enter := []string{unshare, "--user", "--mount", "--map-root-user", "--map-auto"}
	if file, err := os.Executable(); err == nil && exec.Command(enter[0], append(enter[1:], "true")...).Run() == nil {
		unix.Exec(unshare, append(append(enter, file), os.Args[1:]...), os.Environ())
	}
}

// upLoopback sets the device lo up, which begins down. See netdevice(7).
func upLoopback() {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(s)
	if lo, err := unix.NewIfreq("lo"); err == nil {
		lo.SetUint16(unix.IFF_UP)
		unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo) // a program of a test that is not root need not do it again
	}
}

// again is this program once more, by the name of its file: /proc/self/exe is the file as it is mounted here, also for who goes into
// a mount namespace of its own.
func again(as string, args ...string) *exec.Cmd {
	file, _ := os.Executable() // without it, Start fails
	cmd := exec.Command(file, args...)
	cmd.Env = append(os.Environ(), stage+"="+as)
	return cmd
}

func asInit() (status int, err error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return 0, err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return 0, err
	}
	cmd := again("tests", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	for {
		var status unix.WaitStatus
		switch pid, err := unix.Wait4(-1, &status, 0, nil); {
		case err != nil && err != unix.EINTR:
			return 0, err
		case pid == cmd.Process.Pid && status.Signaled():
			return 128 + int(status.Signal()), nil
		case pid == cmd.Process.Pid:
			return status.ExitStatus(), nil
		}
	}
}

// removeAll removes the folder of tests that have ended, and the cgroups of all containers in it.
func removeAll(folder string) {
	var ids []string
	filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
		if err == nil && filepath.Base(filepath.Dir(path)) == "containers" {
			ids = append(ids, entry.Name())
		}
		return nil
	})
	left := Cgroups(func(name string) bool {
		id, _ := strings.CutPrefix(name, "gocker-")
		return slices.Contains(ids, id) || strings.Contains(name, filepath.Base(folder))
	})
	slices.Reverse(left) // those inside first
	for deadline := time.Now().Add(10 * time.Second); len(left) > 0 && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		left = slices.DeleteFunc(left, func(path string) bool {
			procs, _ := os.ReadFile(filepath.Join(path, "cgroup.procs"))
			for _, line := range strings.Fields(string(procs)) {
				if pid, _ := strconv.Atoi(line); pid > 0 { // 0 is one of a pid namespace that we do not see into
					unix.Kill(pid, unix.SIGKILL)
				}
			}
			return unix.Rmdir(path) != unix.EBUSY // it is until the last of its processes is gone
		})
	}
	os.RemoveAll(folder)
}
