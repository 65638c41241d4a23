//go:build linux

// Package birth makes a child of this program that makes only the system calls that were written down for it.
//
// A Go program is several threads, and fork(2) copies one of them. The child has all the memory, but no thread
// that collects garbage, grows stacks or switches goroutines, so it cannot go on in Go. But it can make system calls. A
// List has these calls, written down before the child is born, with all that they point to; the last one is execve(2).
// They are only the work that a process must do itself. Its parent does the rest for it.
//
//	list, err := birth.NewList()
//	list.Add("setsid", unix.SYS_SETSID)     // a call, and what it is for
//	list.Report()                           // here the child says that it is so far
//	list.Wait()                             // and waits for Proceed
//	err = list.Exec(args, env)
//	pid, pidfd, err := list.Clone(unix.CLONE_NEWPID)
//	err = list.Read()                       // nil: it is so far
//	err = list.Proceed()
//	err = list.Read()                       // io.EOF: it executes its command, or is dead
//
// Between parent and child is a socket. The child's side closes by itself at execve(2): so the parent knows.
package birth

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Call is one system call of the child.
type Call struct {
	what   string // it should do: for the error message
	number uintptr
	args   [6]uintptr
	least  uintptr // a smaller result than this is an error too: so many bytes are to be read
	orNext bool    // where it finds no file that it may execute, the next call is tried
	begets bool    // it makes a process that goes on with the list: see Again

	// Enters says that the call takes the child into its cgroup. A child that is born there does not make it.
	Enters bool
}

// A List is what a child does, in order.
type List struct {
	calls  []Call
	bound  bool     // it dies with its parent
	born   bool     // in its cgroup
	cgroup *os.File // where it is to be born, or nil
	pid    int
	ours   *os.File // the socket's sides
	theirs int
	sent   *os.File         // what the child has sent: see Send
	kept   []int            // what else it has open until execve(2): see Keep
	again  bool             // the child makes a child, which goes on in its place: see Again
	passed bool             // another process has the socket, with the container's rights: see Follow
	page   []byte           // memory that we share with the child,
	report *report          // with what it has to say
	word   [1]byte          // what the parent says; that it comes is all that matters
	keep   []unsafe.Pointer // what the calls point to: as numbers, the garbage collector would not see it
}

// A report is what the child says: that it is as far as it should be, or which of its calls failed, and why. Then it has given
// up. It says so over the socket; where a filter of system calls denies that too, its parent finds it in their memory. And it may
// say which process goes on in its place: see Follow.
type report struct{ call, errno, gaveUp, born uint32 }

// A Failed is the error of a child's system call.
type Failed struct {
	What   string // as it was written down
	Number uintptr
	Errno  syscall.Errno
}

func (f Failed) Error() string { return f.What + ": " + f.Errno.Error() }
func (f Failed) Unwrap() error { return f.Errno }

// NewList makes an empty list, and the socket. The caller closes it.
func NewList() (*List, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	l := &List{ours: os.NewFile(uintptr(pair[0]), "birth"), theirs: pair[1]}
	l.page, err = unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("map memory: %w", err)
	}
	l.report = (*report)(unsafe.Pointer(&l.page[0]))
	return l, nil
}

// Close closes the socket. A child that waits ends.
func (l *List) Close() {
	l.ours.Close()
	l.closeTheirs()
	unix.Munmap(l.page) // of what is unmapped already it does nothing
	l.page = nil
}

// closeTheirs closes what only the child needs.
func (l *List) closeTheirs() {
	if l.theirs >= 0 {
		unix.Close(l.theirs)
	}
	l.theirs = -1
}

// Len is how many calls are written down.
func (l *List) Len() int { return len(l.calls) }

// Add writes down a call. Its arguments are numbers, strings and pointers.
func (l *List) Add(what string, number uintptr, args ...any) *Call {
	c := Call{what: what, number: number}
	for i, arg := range args {
		switch arg := arg.(type) {
		case int:
			c.args[i] = uintptr(arg)
		case uintptr:
			c.args[i] = arg
		case string:
			text, err := unix.BytePtrFromString(arg)
			if err != nil {
				text = new(byte) // a name with a zero byte in it is nobody's, and the empty one too
			}
			c.args[i] = l.point(unsafe.Pointer(text))
		case unsafe.Pointer:
			c.args[i] = l.point(arg)
		}
	}
	l.calls = append(l.calls, c)
	return &l.calls[len(l.calls)-1]
}

func (l *List) point(to unsafe.Pointer) uintptr {
	l.keep = append(l.keep, to)
	return uintptr(to)
}

// Wait makes the child wait for Proceed. If its parent is gone, it does not go on.
func (l *List) Wait() {
	l.Add("wait for gocker", unix.SYS_READ, l.theirs, unsafe.Pointer(&l.word), 1).least = 1
}

// Report makes the child say that it is so far.
func (l *List) Report() {
	l.Add("answer gocker", unix.SYS_WRITE, l.theirs, unsafe.Pointer(l.report), unsafe.Sizeof(*l.report))
}

// Send makes the child report, and send along the file that it opens with the call that was added last. That has the
// lowest number that is free, and what a child has open is known: see CloseAll.
func (l *List) Send() {
	number := 3
	if l.theirs == number {
		number++
	}
	rights := unix.UnixRights(number)
	said := &unix.Iovec{Base: &l.page[0]}
	said.SetLen(int(unsafe.Sizeof(*l.report)))
	message := &unix.Msghdr{Iov: said, Control: &rights[0]}
	message.SetIovlen(1)
	message.SetControllen(len(rights))
	l.Add("hand over a file", unix.SYS_SENDMSG, l.theirs, unsafe.Pointer(message), 0)
}

// A child that has said nothing for this long, in milliseconds, may have been stopped; and so often it is told to go on.
const (
	silence   = 10
	mostStops = 100
)

// Read reads what the child says: nil that it is so far, a Failed that it is not. io.EOF says that it has closed its
// side, by execve(2) or by its death. In a container that runs, others may stop the child, and its parent would wait for ever:
// so it is told to go on, and if they will not have it, it is killed. Or they may hold its side open: then its death counts.
func (l *List) Read() error {
	said := []unix.PollFd{{Fd: int32(l.ours.Fd()), Events: unix.POLLIN}}
	for stops := 0; ; {
		if n, err := unix.Poll(said, silence); n > 0 || err != nil && err != unix.EINTR {
			return l.read()
		}
		var stopped, dead unix.Siginfo
		unix.Waitid(unix.P_PID, l.pid, &stopped, unix.WSTOPPED|unix.WNOHANG, nil) // one that is dead is not stopped
		unix.Waitid(unix.P_PID, l.pid, &dead, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		switch {
		case dead.Signo != 0:
			unix.Shutdown(int(l.ours.Fd()), unix.SHUT_RD) // so that reading ends with what has arrived
		case stopped.Signo == 0:
		case stops == mostStops:
			unix.Kill(l.pid, unix.SIGKILL)
		default:
			stops++
			unix.Kill(l.pid, unix.SIGCONT)
		}
	}
}

// read reads one report, which comes in one piece.
func (l *List) read() error {
	var r report
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&r)), unsafe.Sizeof(r))
	rights := make([]byte, unix.CmsgSpace(4))
	if l.passed {
		rights = nil // a file that comes along is closed by the kernel
	}
	n, m, _, _, err := unix.Recvmsg(int(l.ours.Fd()), raw, rights, unix.MSG_CMSG_CLOEXEC)
	for err == unix.EINTR {
		n, m, _, _, err = unix.Recvmsg(int(l.ours.Fd()), raw, rights, unix.MSG_CMSG_CLOEXEC)
	}
	switch {
	case n == 0 && err == nil || err == unix.ECONNRESET: // this one says that it died before it read our last word
		if r = *l.report; r.gaveUp == 0 {
			return io.EOF
		}
	case err != nil:
		return fmt.Errorf("listen to the child: %w", err)
	}
	if messages, err := unix.ParseSocketControlMessage(rights[:m]); err == nil && len(messages) > 0 {
		if fds, err := unix.ParseUnixRights(&messages[0]); err == nil {
			l.sent = os.NewFile(uintptr(fds[0]), "sent")
		}
	}
	if r.gaveUp != 0 || l.passed {
		return l.failed(r)
	}
	return nil
}

// failed is the error of a call, as the child says.
func (l *List) failed(r report) error {
	if int(r.call) >= len(l.calls) || r.gaveUp == 0 {
		return errors.New("listen to the child: this is no message of a child")
	}
	c := l.calls[r.call]
	return Failed{c.what, c.number, syscall.Errno(r.errno)}
}

// Sent is the file that came along with what was read last, or nil. It is the caller's.
func (l *List) Sent() *os.File {
	sent := l.sent
	l.sent = nil
	return sent
}

// Proceed lets the child go on. One that is dead will be noticed by Read.
func (l *List) Proceed() error {
	if _, err := l.ours.Write(l.word[:]); err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// BornIn says in which cgroup the child is to be born: by CLONE_INTO_CGROUP in clone3(2), for v2, since Linux 5.7. Where
// that is refused, by the kernel or by a seccomp filter, the calls take it there that are marked with Enters.
func (l *List) BornIn(cgroup *os.File) { l.cgroup = cgroup }

// cloneArgs are those of clone3(2).
type cloneArgs struct {
	flags, pidfd, childTid, parentTid, exitSignal, stack, stackSize, tls, setTid, setTidSize, cgroup uint64
}

// Clone makes the child. The thread must be locked. Signals are blocked, here for this moment and in the child until its
// list ends: the handlers are Go's, and need all of Go.
func (l *List) Clone(flags int) (pid int, pidfd *os.File, err error) {
	// Package os waits for the end of a pipe when it starts a program. A child of ours with a copy of that would hold it open.
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	all, before := new(unix.Sigset_t), new(unix.Sigset_t)
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, all, before); err != nil {
		return 0, nil, fmt.Errorf("block signals: %w", err)
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, before, nil)
	defer l.closeTheirs()
	fd := new(int32)
	args := &cloneArgs{
		flags: uint64(flags) | unix.CLONE_PIDFD, pidfd: uint64(l.point(unsafe.Pointer(fd))), exitSignal: uint64(unix.SIGCHLD),
	}
	errno := syscall.ENOSYS
	if l.cgroup != nil {
		into := *args
		into.flags, into.cgroup = args.flags|unix.CLONE_INTO_CGROUP, uint64(l.cgroup.Fd())
		l.born = true
		pid, errno = l.fork(&into)
	}
	if errno != 0 {
		l.born = false
		pid, errno = l.fork(args)
	}
	if errno != 0 {
		return 0, nil, errno
	}
	l.pid = pid
	child := os.NewFile(uintptr(*fd), "pidfd")
	if l.again {
		return l.heir(child)
	}
	return pid, child, nil
}

// fork returns in the parent only. The functions that it calls in the child may not even grow the stack: with go:nosplit
// the linker checks that.
//
//go:norace
//go:nosplit
func (l *List) fork(args *cloneArgs) (pid int, errno syscall.Errno) {
	var r uintptr
	if args.flags&unix.CLONE_INTO_CGROUP != 0 {
		r, _, errno = unix.RawSyscall(unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args), 0)
	} else {
		// The older clone(2) does the rest too, and seccomp filters let it through that cannot look into clone3's memory.
		r, _, errno = unix.RawSyscall6(unix.SYS_CLONE, uintptr(args.flags|args.exitSignal), 0, uintptr(args.pidfd), 0, 0, 0)
	}
	if r != 0 || errno != 0 {
		return int(r), errno
	}
	l.live()
	return 0, 0 // never
}

// live is the child's whole life, until it executes its command.
//
//go:norace
//go:nosplit
func (l *List) live() {
	for i := range l.calls {
		c := &l.calls[i]
		if c.Enters && l.born {
			continue
		}
		r, errno := c.do()
		if errno == 0 && r >= c.least {
			continue
		}
		missing := errno == unix.ENOENT || errno == unix.ENOTDIR
		if !missing || l.report.errno == 0 { // of several files, one that is there says more than one that is not
			l.report.call, l.report.errno = uint32(i), uint32(errno)
		}
		if !c.orNext || !missing && errno != unix.EACCES {
			break
		}
	}
	l.giveUp()
}

// do makes the call. A process that has made another one, which goes on with the list, ends.
//
//go:norace
//go:nosplit
func (c *Call) do() (r uintptr, errno syscall.Errno) {
	r, _, errno = unix.RawSyscall6(c.number, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
	if errno == 0 && c.begets && r != 0 {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	return r, errno
}

// giveUp reports the failure, and ends the child.
//
//go:norace
//go:nosplit
func (l *List) giveUp() {
	l.report.gaveUp = 1
	unix.RawSyscall(unix.SYS_WRITE, uintptr(l.theirs), uintptr(unsafe.Pointer(l.report)), unsafe.Sizeof(*l.report))
	unix.RawSyscall(unix.SYS_EXIT_GROUP, 1, 0, 0)
	// A filter of system calls may deny even that. It cannot deny a fault. Its signal is blocked, so it ends the child at once.
	var nowhere *report
	nowhere.gaveUp = 1
}
