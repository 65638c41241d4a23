//go:build linux

package terminal

import (
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// The content of a pipe can go to a file or to another pipe without a copy: splice(2) moves the pages themselves.

// How many bytes are moved by one call, and copied by one. A pipe of ours holds four times what others do: so the process and we
// wait half as often for each other. More would not stay in a processor's cache.
const (
	mostMoved  = 256 << 10
	mostCopied = 64 << 10
)

// canSplice tells whether to splice between a pipe and a file. While the kernel waits for anything but pipes, it keeps the pipe
// locked, and the process at its other end could not even be killed. A regular file makes it wait no longer than the process
// itself would, and the null device not at all.
func canSplice(f *os.File) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	isNull := ok && stat.Mode&unix.S_IFMT == unix.S_IFCHR && stat.Rdev == unix.Mkdev(1, 3)
	return isNull || info.Mode().IsRegular() || info.Mode().Type() == os.ModeNamedPipe
}

// descriptor is a file's number. Unlike Fd it leaves it as it is, blocking or not.
func descriptor(f *os.File) (fd int) {
	fd = -1
	if conn, err := f.SyscallConn(); err == nil {
		conn.Control(func(is uintptr) { fd = int(is) })
	}
	return fd
}

// wait waits until one of the descriptors is as it should be.
func wait(polled ...unix.PollFd) bool {
	for {
		if _, err := unix.Poll(polled, -1); err != unix.EINTR {
			return err == nil
		}
	}
}

// feed copies a file to a pipe, until there is no more, or nobody reads the pipe: then the rest of the file is left to others.
func feed(in, pipe *os.File) {
	defer pipe.Close()
	from, to, splices := descriptor(in), descriptor(pipe), canSplice(in)
	var buffer []byte
	for {
		ends := []unix.PollFd{{Fd: int32(from), Events: unix.POLLIN}, {Fd: int32(to)}} // of the pipe, the end: POLLERR
		if !wait(ends...) || ends[1].Revents != 0 || !wait(unix.PollFd{Fd: int32(to), Events: unix.POLLOUT}) {
			return
		}
		if splices {
			n, err := unix.Splice(from, nil, to, nil, mostMoved, unix.SPLICE_F_NONBLOCK)
			switch {
			case n > 0 || err == unix.EAGAIN || err == unix.EINTR:
				continue
			case err != unix.EINVAL:
				return
			}
			splices = false
		}
		if buffer == nil {
			buffer = make([]byte, mostCopied)
		}
		n, err := in.Read(buffer)
		if _, writeErr := pipe.Write(buffer[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

// An output is a pipe that the process writes to, and the writer that gets its content.
type output struct {
	pipe    *os.File
	to      io.Writer
	file    int  // to's descriptor,
	splices bool // if it has one that can be spliced to
	buffer  []byte
}

func newOutput(pipe *os.File, to io.Writer) *output {
	o := &output{pipe: pipe, to: to}
	if f, ok := to.(*os.File); ok && canSplice(f) {
		o.file, o.splices = descriptor(f), true
	}
	return o
}

// copy copies until nobody has the other end of the pipe; from its deadline on, only what is in it then.
func (o *output) copy() error {
	defer o.pipe.Close() // a process that continues to write gets SIGPIPE
	conn, err := o.pipe.SyscallConn()
	for err == nil {
		var n int
		var moveErr error
		err = conn.Read(func(pipe uintptr) bool {
			n, moveErr = o.move(int(pipe), mostMoved)
			return moveErr != unix.EAGAIN
		})
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = nil
			conn.Control(func(pipe uintptr) { err = o.rest(int(pipe)) })
			break
		}
		if err == nil {
			err = moveErr
		}
		if n == 0 {
			break
		}
	}
	if errors.Is(err, unix.EPIPE) { // nobody reads our output: the process will notice, too
		err = nil
	}
	return err
}

// rest copies what is in the pipe now.
func (o *output) rest(pipe int) error {
	left, err := unix.IoctlGetInt(pipe, unix.TIOCINQ) // FIONREAD in pipe(7)
	for left > 0 && err == nil {
		var n int
		if n, err = o.move(pipe, min(left, mostMoved)); n == 0 {
			break
		}
		left -= n
	}
	if err == unix.EAGAIN { // somebody inside has read it
		err = nil
	}
	return err
}

// move moves what the pipe has, at most so many bytes, as soon as the writer takes it. EAGAIN: the pipe is empty.
func (o *output) move(pipe, most int) (int, error) {
	for o.splices {
		n, err := unix.Splice(pipe, nil, o.file, nil, most, unix.SPLICE_F_NONBLOCK)
		switch err {
		case unix.EINTR:
		case unix.EAGAIN: // which of them?
			ends := []unix.PollFd{{Fd: int32(pipe), Events: unix.POLLIN}}
			if ready, err := unix.Poll(ends, 0); err == nil && ready == 0 {
				return 0, unix.EAGAIN
			}
			wait(unix.PollFd{Fd: int32(o.file), Events: unix.POLLOUT})
		case unix.EINVAL: // a file that is only appended to
			o.splices = false
		default:
			return int(n), err
		}
	}
	if o.buffer == nil {
		o.buffer = make([]byte, mostCopied)
	}
	n, err := unix.Read(pipe, o.buffer[:min(most, mostCopied)])
	if n <= 0 {
		return 0, err
	}
	_, err = o.to.Write(o.buffer[:n])
	return n, err
}
