//go:build linux

package namespaces

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/check"
)

// Enter runs spec.Process in the container whose first process is pid, and returns its status. A thread of this
// program joins the container's namespaces, setns(2), and starts the process from there: so it is found, opened and
// born inside, and no code of ours runs inside beside it. place, if not nil, is called with its pid before its first
// instruction: the time to put it into the container's cgroup. Errors are ErrNotFound and ErrNotExecutable, as with
// Start.
func Enter(pid int, spec *specs.Spec, stdio Stdio, stdin *os.File, stdout io.Writer, place func(pid int) error) (status int, err error) {
	process := spec.Process
	// What the names in /proc mean changes with the mount namespace, so what is needed of the host is opened before.
	container, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, fmt.Errorf("open the container's first process %d: %w", pid, err)
	}
	defer unix.Close(container)
	if err := closeInherited(); err != nil {
		return -1, err
	}
	p := &Process{cmd: &exec.Cmd{
		Args: process.Args,
		Env:  process.Env,
		Dir:  process.Cwd,
		SysProcAttr: &syscall.SysProcAttr{
			Setsid:     true,
			Ptrace:     true, // it stops when it has executed the command, until it is let go
			Credential: &syscall.Credential{Uid: process.User.UID, Gid: process.User.GID, Groups: process.User.AdditionalGids},
		},
		Stdin: stdio.Stdin, Stdout: stdio.Stdout, Stderr: stdio.Stderr,
	}}
	err = check.OnThread(func() error {
		if err := dropPrivileges(process); err != nil {
			return err
		}
		// A thread shares its root and working folder with the others, and the kernel lets none change that for all.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		const all = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP
		if err := unix.Setns(container, all); err != nil {
			return fmt.Errorf("join the namespaces of process %d (this needs Linux 5.8): %w", pid, err)
		}
		// Last, as it lets no namespace be joined any more.
		if err := filterSystemCalls(spec.Linux.Seccomp); err != nil {
			return err
		}
		return p.startInside(process, place)
	})
	if err != nil {
		return -1, err
	}
	return p.follow(stdin, stdout)
}

// startInside finds and starts the command, on a thread that is in the container.
func (p *Process) startInside(process *specs.Process, place func(pid int) error) error {
	path, err := lookPath(process.Args[0], process.Env)
	if err != nil {
		return err
	}
	p.cmd.Path = path
	if process.Terminal {
		master, slave, err := openTerminal(process)
		if err != nil {
			return fmt.Errorf("open a terminal: %w", err)
		}
		defer slave.Close()
		p.Terminal = master
		p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = slave, slave, slave
		p.cmd.SysProcAttr.Setctty = true
	}
	if err := p.cmd.Start(); err != nil {
		if p.Terminal != nil {
			p.Terminal.Close()
		}
		if errors.Is(err, unix.ENOENT) {
			return missingInterpreter(path)
		}
		return fmt.Errorf("%w: %w", ErrNotExecutable, err)
	}
	p.Pid = p.cmd.Process.Pid
	var stopped unix.WaitStatus
	_, err = unix.Wait4(p.Pid, &stopped, 0, nil)
	if err == nil && place != nil {
		placed := make(chan error)
		go func() { placed <- place(p.Pid) }() // on another thread: for this one /sys/fs/cgroup is the container's
		err = <-placed
	}
	if err == nil {
		err = unix.PtraceDetach(p.Pid)
	}
	if err != nil {
		p.Abort()
		return fmt.Errorf("start %q: %w", path, err)
	}
	return nil
}
