//go:build linux

package runtime

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"gocker/final/internal/tiny"
	"gocker/step04-overlay/check"
	"gocker/step05-namespaces/birth"
	"gocker/step05-namespaces/namespaces"
)

// A container dies with the process that made it, by PR_SET_PDEATHSIG. But the kernel forgets that when the first process
// becomes another user or executes a setuid program, and the first process may forget it itself. So a small process stands
// outside, holds one end of a socket, and kills the first process when the other end is closed: only we have that, and the
// kernel closes it also for one that is killed.

// A guard is that process, and our end of the socket.
type guard struct {
	pid    int
	socket *os.File
}

// guarded are the parts of the guard. It is started beside the setup, and hears which process to guard before the command begins.
// With the first process of a pid namespace all others in it end; if a container shares another's, they are left to the next
// command. Where no guard can be started (vm.memfd_noexec=2, no more processes), there is still the death signal.
func guarded() (starts, told namespaces.Part) {
	var started func() (*guard, error)
	end := func() {
		if g, err := started(); err == nil {
			g.end()
		}
	}
	starts = namespaces.Part{
		Outside: func() error {
			started = check.Elsewhere(startGuard)
			return nil
		},
		Last: func(*birth.List) error {
			// Before the clone: a program that is being started has one end of a pipe, and we wait at the other. The child would
			// have a copy of that end, and wait for us: package syscall gives ForkLock back before it closes its own.
			started()
			return nil
		},
		Done: func(err error) {
			if err != nil && started != nil {
				end()
			}
		},
		Ended: func(unix.WaitStatus) { end() },
	}
	told = namespaces.Part{Ready: func(p *namespaces.Process) error {
		g, err := started()
		if err != nil {
			return nil
		}
		rights := unix.UnixRights(int(p.Pidfd.Fd()))
		return unix.Sendmsg(int(g.socket.Fd()), []byte{0}, rights, nil, unix.MSG_NOSIGNAL)
	}}
	return starts, told
}

// startGuard starts a guard. It shares neither file nor session with us.
func startGuard() (*guard, error) {
	const name = "gocker-guard"
	program, err := tiny.NewFile(name)
	if err != nil {
		return nil, err
	}
	defer program.Close()
	if _, err := program.Write(tiny.Guard()); err != nil {
		return nil, err
	}
	// For containers that see it, as in the host's pid namespace: /proc/{pid}/exe leads to the file.
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(program.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return nil, fmt.Errorf("seal %s: %w", name, err)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[0]), name)
	defer theirs.Close()
	g := &guard{socket: os.NewFile(uintptr(pair[1]), name)}
	// Not os.StartProcess, which starts one process more, once, to see what it can know of processes.
	g.pid, err = syscall.ForkExec(fmt.Sprint("/proc/self/fd/", program.Fd()), []string{name}, &syscall.ProcAttr{
		Dir: "/", Env: []string{}, Files: []uintptr{theirs.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		g.socket.Close()
		return nil, err
	}
	return g, nil
}

// end ends the guard: no process is left that it could kill. A monitor that starts its container again gathers no zombies.
func (g *guard) end() {
	g.socket.Close()
	go func() {
		for {
			if _, err := unix.Wait4(g.pid, nil, 0, nil); err != unix.EINTR { // its status is of no interest
				return
			}
		}
	}()
}
