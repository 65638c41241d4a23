//go:build linux

package rootless

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gocker/final/internal/enter"
	"gocker/final/internal/tiny"
	"gocker/step01-pull/shared/dirs"
	"gocker/step04-overlay/check"
)

// startGuard starts a tiny program that waits for the holder's end. It is the first process of a pid namespace, and the program for
// the way out is another one there. So when the guard ends, the kernel kills that, also if somebody has killed the guard: see
// pid_namespaces(7).
func startGuard() (pid int, err error) {
	alive, err := os.Open(aliveName(dirs.Default().Run))
	if err != nil {
		return 0, err
	}
	defer alive.Close()
	const name = "gocker-uplink"
	program, err := enter.NewProgram(name, []tiny.Call{
		{Number: unix.SYS_PRCTL, Args: []any{unix.PR_SET_NAME, name}},
		closeFrom(3),
		{Number: unix.SYS_FLOCK, Args: []any{0, unix.LOCK_EX}},
		{Number: unix.SYS_EXIT_GROUP, Args: []any{0}},
	})
	if err != nil {
		return 0, err
	}
	defer program.Close()
	cmd := &exec.Cmd{
		Path: fmt.Sprint("/proc/self/fd/", program.Fd()), Args: []string{name}, Env: []string{}, Dir: "/", Stdin: alive,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWPID},
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("start %s: %w", name, err)
	}
	go cmd.Wait()
	return cmd.Process.Pid, nil
}

// endGuard ends a guard, if it is still there, and waits: it ends as the last of its pid namespace. So the device that they had is free.
func endGuard(line string) {
	_, pidfd, err := enter.Process(line)
	if err != nil {
		return
	}
	defer unix.Close(pidfd)
	unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0)
	const patience = 1000 // ms; whoever started the program may have been stopped, and does not wait for it
	unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, patience)
}

// startBelow starts a command in the pid namespace of a process.
func startBelow(pid int, cmd *exec.Cmd) error {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(pidfd)
	return check.OnThread(func() error { // setns(2) is for the processes that this thread makes
		if err := unix.Setns(pidfd, unix.CLONE_NEWPID); err != nil {
			return fmt.Errorf("join the pid namespace of process %d: %w", pid, err)
		}
		return cmd.Start()
	})
}

// A way out that does not last is made again after a while, each time after twice as long. One that has lasted for longer than calm
// begins anew.
const (
	firstPause = 100 * time.Millisecond
	longPause  = time.Minute
	calm       = 10 * time.Second
)

// KeepUplink makes the way out again whenever its program has ended, until ctx ends.
func KeepUplink(ctx context.Context) {
	for pause := firstPause; Apart(); pause = min(2*pause, longPause) {
		begun := time.Now()
		awaitUplink(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(begun) > calm {
			pause = firstPause
		}
		connect() // there is nobody to tell; the next container that starts meets the same error
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// awaitUplink waits for the end of the program, or of ctx.
func awaitUplink(ctx context.Context) {
	program, _ := uplink()
	_, pidfd, err := enter.Process(program)
	if err != nil {
		return // it has ended
	}
	unix.SetNonblock(pidfd, true) // so no thread waits, but the one that waits for all files
	file := os.NewFile(uintptr(pidfd), "pidfd")
	defer context.AfterFunc(ctx, func() { file.Close() })()
	defer file.Close()
	if conn, err := file.SyscallConn(); err == nil {
		conn.Read(func(fd uintptr) bool { return enter.HasEnded(int(fd)) })
	}
}

// holdAgain has a process hold the namespaces that this one is in, if somebody has killed the one that did.
func holdAgain() error {
	lock, err := os.OpenFile(enter.LockName(dirs.Default().Run), os.O_RDWR, 0) // which this process has locked, shared
	if err != nil {
		return err
	}
	pidfd, _, err := holder(lock)
	if err == nil {
		err = unix.Close(pidfd)
	}
	return errors.Join(err, lock.Close())
}
