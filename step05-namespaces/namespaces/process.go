//go:build linux

package namespaces

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"gocker/step04-overlay/check"
	"gocker/step05-namespaces/birth"
)

// Why a command did not start. The exit statuses that shells, docker and podman use for them are 127 and 126.
var (
	ErrNotFound      = errors.New("command not found")
	ErrNotExecutable = errors.New("command cannot be executed")
)

// A Process is a process in a container: its first one, PID 1 in there, or one more.
type Process struct {
	Pid   int      // as the host counts
	Pidfd *os.File // the process itself, open until it has ended: its number may be another's one day. See pidfd_open(2)

	streams Streams
	parts   []Part // those of the streams are the first
	command string // as its caller names it
	byPart  bool   // the list has been ended by a part
	list    *birth.List
	started chan error    // what became of Start
	ended   chan struct{} // closed when it has ended, with this status:
	status  unix.WaitStatus
}

// onItsThread has a thread set up a process and wait for its end, and then the thread ends too. It is in the container,
// where no other goroutine should find itself; and with it dies the process that it made: see PR_SET_PDEATHSIG in
// prctl(2).
func onItsThread(streams Streams, parts []Part, setUp func(p *Process) error) (*Process, error) {
	list, err := birth.NewList()
	if err != nil {
		return nil, err
	}
	p := &Process{streams: streams, list: list, started: make(chan error, 1), ended: make(chan struct{})}
	for _, part := range append([]Part{streams.Part()}, parts...) {
		p.parts = append(p.parts, part.filled())
	}
	created := make(chan error)
	go check.OnThread(func() error {
		err := setUp(p)
		if err != nil {
			p.discard()
		}
		for _, part := range p.parts {
			part.Done(err)
		}
		created <- err
		if err == nil {
			p.started <- p.hasBecome()
			p.reap()
			for _, part := range p.parts {
				part.Ended(p.status)
			}
			close(p.ended)
		}
		return nil
	})
	if err := <-created; err != nil {
		return nil, err
	}
	return p, nil
}

// discard ends the child of a setup that failed.
func (p *Process) discard() {
	p.list.Close()
	if p.Pidfd != nil {
		p.Kill()
		p.reap()
	}
}

// Start lets the child execute its command. ErrNotFound and ErrNotExecutable say that it could not; then the process
// is gone.
func (p *Process) Start() error {
	err := p.list.Proceed()
	if err == nil {
		err = <-p.started
	}
	if err != nil {
		p.Abort()
	}
	return err
}

// hasBecome tells what became of the child when it was let go: nil if it executes its command, or was killed.
func (p *Process) hasBecome() error {
	defer p.list.Close()
	err := p.list.Read()
	for err == nil { // it goes on after it has sent a file
		if sent := p.list.Sent(); sent != nil {
			for _, part := range p.parts {
				part.Sent(sent)
			}
		}
		err = p.list.Read()
	}
	if errors.Is(err, io.EOF) {
		for _, part := range p.parts {
			part.Started()
		}
		return nil
	}
	return p.explain(err)
}

// explain says more of the error of a child.
func (p *Process) explain(err error) error {
	var failed birth.Failed
	if errors.As(err, &failed) && failed.Number == unix.SYS_EXECVE {
		kind := ErrNotExecutable
		if failed.Errno == unix.ENOENT || failed.Errno == unix.ENOTDIR {
			kind, failed.What = ErrNotFound, fmt.Sprintf("%q", p.command) // the child names only one of the files in PATH that it tried
		}
		err = fmt.Errorf("%w: %w", kind, failed)
	}
	for _, part := range p.parts {
		err = part.Failed(err)
	}
	return err
}

// Follow lets the child go on to where another process takes its place, and that waits for Start then: see List.Follow. A part
// calls it that has ended the list so, when it is ready.
func (p *Process) Follow() error {
	err := p.list.Proceed()
	if err != nil {
		return err
	}
	pid, pidfd, err := p.list.Follow(p.Pidfd)
	if errors.Is(err, io.EOF) {
		return p.endedEarly()
	}
	if err != nil {
		return p.explain(err)
	}
	p.reap() // it has nothing else to do
	p.Pid, p.Pidfd = pid, pidfd
	return nil
}

// reap waits for the end of the process itself.
func (p *Process) reap() {
	for {
		// An error other than EINTR would say that it is no child of ours.
		if _, err := unix.Wait4(p.Pid, &p.status, 0, nil); err != unix.EINTR {
			break
		}
	}
	p.Pidfd.Close()
}

// Signal sends a signal to the process. One that has ended is no error.
func (p *Process) Signal(sig os.Signal) error {
	number, ok := sig.(syscall.Signal)
	if !ok {
		return fmt.Errorf("signal %v: not one of this system", sig)
	}
	conn, err := p.Pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := conn.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), number, nil, 0) }); err != nil {
		return nil // the file is closed: see reap
	}
	if sent != nil && sent != unix.ESRCH {
		return fmt.Errorf("signal process %d: %w", p.Pid, sent)
	}
	return nil
}

// Ended is closed when the process itself has ended. Its output may not have, nor what it started.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Wait waits for the end of the process and of its output. The status is its exit status, or 128 + the number of the
// signal that ended it. With PID 1 the kernel ends all processes of the pid namespace: see pid_namespaces(7).
func (p *Process) Wait() (status int, err error) {
	<-p.ended
	if err := p.streams.Wait(); err != nil {
		return -1, err
	}
	return statusOf(p.status), nil
}

func statusOf(ws unix.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// Run starts the command and waits for its end.
func (p *Process) Run() (status int, err error) {
	if err := p.Start(); err != nil {
		return -1, err
	}
	return p.Wait()
}

// Kill ends the process, and with PID 1 all processes of its pid namespace.
func (p *Process) Kill() { p.Signal(unix.SIGKILL) } // an error would say that it is not ours

// Abort kills a process that is not wanted any more, and waits for its end.
func (p *Process) Abort() {
	p.Kill()
	p.Wait() // its status is of no interest, nor what it wrote
}
