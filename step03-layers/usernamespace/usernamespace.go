//go:build linux

// Package usernamespace makes an ordinary user root, over all that is this user's own.
//
// A user namespace has users of its own, and a map that says who they are outside. A process in a new one has all
// capabilities there: over the ids of the map, and over other namespaces that are made from there. It has none over
// anything else. So it may mount, but only in a mount namespace of its own; it may give a file away, but only to an id of
// the map; and no file of another user of the machine is nearer to it than before.
//
//	this program, an ordinary user's              the same program once more, in new user and mount namespaces
//	clone(CLONE_NEWUSER|CLONE_NEWNS)     ──────▶  it is nobody, as no id has a number here yet; it waits
//	writes /proc/{pid}/uid_map, gid_map
//	closes a pipe                        ──────▶  it is root, and does the work
//	waits for the end, ends with the same status
//
// unshare(2) makes no user namespace for a process with several threads, and a Go program has some before its main
// begins. A new process has one thread. So the program starts itself, as os/exec starts any other.
//
// One line brings a program here, and for root it does nothing:
//
//	func main() { lesson.Main("step03-layers", usernamespace.Enter(run)) }
//
// Read Enter first, then Start; map.go has the map. See user_namespaces(7), and docs/user-namespaces.md.
package usernamespace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/lesson"
)

// once is the name of the program that was started once more. Its file 3 is the pipe.
const once = "gocker-in-a-user-namespace"

// Enter is run for root. For other users it is run of this program once more, in a user namespace.
func Enter(run lesson.Run) lesson.Run {
	if os.Args[0] == once {
		return func(ctx context.Context, stdin io.Reader, stdout io.Writer, args []string) error {
			if err := awaitMap(); err != nil {
				return err
			}
			return run(ctx, stdin, stdout, args)
		}
	}
	if os.Geteuid() == 0 {
		return run
	}
	return again
}

// again starts this program once more, and waits for its end.
func again(ctx context.Context, stdin io.Reader, stdout io.Writer, args []string) error {
	m, err := UserMap()
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "0. User %d is not root: this program starts once more, in a user namespace. In there it is root, %s\n", os.Geteuid(), m)
	d := dirs.Default()
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = append([]string{once}, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, os.Stderr
	// As root it would look for its folders below /var.
	cmd.Env = append(os.Environ(), "GOCKER_ROOT="+d.Root, "GOCKER_RUN="+d.Run)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) } // so it can clean up, as this one would
	runtime.LockOSThread()                                                // Pdeathsig means the thread that started it
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := Start(cmd, m); err != nil {
		return err
	}
	err = cmd.Wait()
	if cmd.ProcessState == nil {
		return fmt.Errorf("start this program once more: %w", err)
	}
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		return lesson.Exit(128 + int(status.Signal()))
	}
	if status := cmd.ProcessState.ExitCode(); status != 0 {
		return lesson.Exit(status)
	}
	return nil
}

// Start starts a command in new user and mount namespaces, and gives them the map. The command's file 3 is a pipe, which is
// closed when the map is there. Its SysProcAttr may ask for more.
func Start(cmd *exec.Cmd, m Map) error {
	mapped, done, err := os.Pipe()
	if err != nil {
		return err
	}
	defer done.Close()
	defer mapped.Close()
	cmd.ExtraFiles = []*os.File{mapped}
	cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWUSER | unix.CLONE_NEWNS
	// Without a map nobody is root, and execve(2) takes all capabilities from a process that is not root, but for the ambient
	// ones: see capabilities(7).
	cmd.SysProcAttr.AmbientCaps = allCapabilities()
	if err := cmd.Start(); err != nil {
		return explain(fmt.Errorf("make a user namespace: %w", err))
	}
	if err := m.write(cmd.Process.Pid); err != nil {
		cmd.Process.Kill()
		cmd.Wait() // its status is of no interest
		return explain(err)
	}
	return nil
}

func allCapabilities() (all []uintptr) {
	for c := range uintptr(unix.CAP_LAST_CAP + 1) {
		all = append(all, c)
	}
	return all
}

// awaitMap waits until this process is root. That its parent has died before is no matter: so has this one then.
func awaitMap() error {
	pipe := os.NewFile(3, "pipe")
	if pipe == nil {
		return errors.New("this program was started by a name that it keeps for itself")
	}
	defer pipe.Close()
	if _, err := io.Copy(io.Discard, pipe); err != nil {
		return fmt.Errorf("wait for the map of the user namespace: %w", err)
	}
	if os.Geteuid() != 0 {
		return errors.New("the user namespace has no map")
	}
	if Alone() { // which may not leave a group: see Map.write
		return nil
	}
	return syscall.Setgroups(nil) // the user's other groups have no number here, and open files all the same
}

// Alone tells whether this program is in a user namespace that has no other user and group than root.
func Alone() bool {
	if !Inside() {
		return false
	}
	said, err := os.ReadFile("/proc/self/setgroups")
	return err == nil && strings.TrimSpace(string(said)) == "deny"
}

// initial is the number of the user namespace that a machine begins with: USER_NS_INIT_INO of the kernel's linux/nsfs.h.
const initial = 0xEFFFFFFD

// Inside tells whether this program is in a user namespace that somebody has made. There, root may not do all that root may.
var Inside = sync.OnceValue(func() bool {
	var ns unix.Stat_t
	return unix.Stat("/proc/self/ns/user", &ns) == nil && ns.Ino != initial
})
