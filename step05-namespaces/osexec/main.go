//go:build linux

// Command osexec runs a command in namespaces of its own, as short as Go can do it: os.Cmd runs the command.
//
//	osexec ROOTFS CMD [ARG…]
//
// Some things can only be done inside, before the command begins. So it starts itself a second time, in new namespaces,
// by the name "child", and that one becomes the command. It is not what the runtime does: see docs/step05-namespaces.md.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

func main() {
	run := parent
	if os.Args[0] == "child" {
		run = child
	}
	err := run(os.Args[1:])
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(exit.ExitCode()) // the command's own
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "osexec:", err)
		os.Exit(1)
	}
}

// parent starts this program once more, as PID 1 of new namespaces, and waits for its end.
func parent(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: osexec ROOTFS CMD [ARG…]")
	}
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = "child"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWNET,
	}
	return cmd.Run()
}

// child is in the namespaces. It changes its host name and its root, mounts /proc, and becomes the command.
func child(args []string) error {
	rootfs, command := args[0], args[1:]
	if err := errors.Join(
		syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""), // else what it mounts appears on the host
		syscall.Sethostname([]byte("container")),
		syscall.Chroot(rootfs),
		os.Chdir("/"),
		syscall.Mount("proc", "/proc", "proc", 0, ""),
	); err != nil {
		return err
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		return err
	}
	return syscall.Exec(path, command, os.Environ())
}
