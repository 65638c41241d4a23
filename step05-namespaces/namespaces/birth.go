//go:build linux

package namespaces

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"gocker/step04-overlay/story"
)

// A Go program is several threads, and fork(2) copies one of them. The child has all the memory, but nobody in it who
// collects garbage, grows stacks or switches goroutines, so it cannot go on in Go. What it can do is system calls. A
// birth is the list of those that it makes, written down before it is born, with all that they point to; the last one
// is execve(2). They are only what a process must do itself. All else its parent does for it: see Create.

// A call is one system call of the child.
type call struct {
	what   string // it should do: for the error message
	number uintptr
	args   [6]uintptr
	least  uintptr // a smaller result than this is an error too: so many bytes are to be read
	orNext bool    // where it finds no file that it may execute, the next call is tried
}

// A birth is a child's list, and a socket between child and parent. The child's side closes by itself when the child
// executes its command: so the parent knows.
type birth struct {
	calls  []call
	first  int // call of the list: those before are left out
	ours   *os.File
	theirs int
	bound  bool        // it dies with the thread that made it
	sent   *os.File    // what the child has sent us: see addListening
	report report      // what the child has to say
	word   [1]byte     // what the parent says; that it comes is all that matters
	tell   story.Story // keeps in told what there is to tell of the calls, until they are made
	told   []story.Line
	keep   []unsafe.Pointer // what the calls point to: as numbers, the garbage collector would not see it
}

// A report is what the child says: that it is as far as it should be, or which of its calls failed, and why.
type report struct{ call, errno uint32 }

func newBirth(tells bool) (*birth, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	b := &birth{ours: os.NewFile(uintptr(pair[0]), "birth"), theirs: pair[1]}
	if tells {
		b.tell = func(line story.Line) { b.told = append(b.told, line) }
	}
	return b, nil
}

// closeTheirs closes what only the child needs.
func (b *birth) closeTheirs() {
	if b.theirs >= 0 {
		unix.Close(b.theirs)
	}
	b.theirs = -1
}

// read reads what the child says: nil that it is so far, a failedCall that it is not. io.EOF says that it has closed
// its side, by execve(2) or by its death. A file that comes along is in sent.
func (b *birth) read() error {
	var r report
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&r)), unsafe.Sizeof(r))
	rights := make([]byte, unix.CmsgSpace(4))
	n, m, _, _, err := unix.Recvmsg(int(b.ours.Fd()), raw, rights, unix.MSG_WAITALL|unix.MSG_CMSG_CLOEXEC)
	for err == unix.EINTR {
		n, m, _, _, err = unix.Recvmsg(int(b.ours.Fd()), raw, rights, unix.MSG_WAITALL|unix.MSG_CMSG_CLOEXEC)
	}
	if n == 0 && err == nil || err == unix.ECONNRESET { // this one says that it died before it read our last word
		return io.EOF
	}
	if err != nil {
		return fmt.Errorf("listen to the child: %w", err)
	}
	if messages, err := unix.ParseSocketControlMessage(rights[:m]); err == nil && len(messages) > 0 {
		if fds, err := unix.ParseUnixRights(&messages[0]); err == nil {
			b.sent = os.NewFile(uintptr(fds[0]), "sent")
		}
	}
	if r.errno == 0 {
		return nil
	}
	c := b.calls[r.call]
	return failedCall{c.what, c.number, syscall.Errno(r.errno)}
}

// proceed lets the child go on. One that is dead will be noticed by who reads.
func (b *birth) proceed() error {
	if _, err := b.ours.Write(b.word[:]); err != nil && !errors.Is(err, unix.EPIPE) && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// A failedCall is the error of a child's system call.
type failedCall struct {
	what   string
	number uintptr
	errno  syscall.Errno
}

func (f failedCall) Error() string { return f.what + ": " + f.errno.Error() }
func (f failedCall) Unwrap() error { return f.errno }

// add writes down a call. Its arguments are numbers, strings and pointers.
func (b *birth) add(what string, number uintptr, args ...any) *call {
	c := call{what: what, number: number}
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
			c.args[i] = b.point(unsafe.Pointer(text))
		case unsafe.Pointer:
			c.args[i] = b.point(arg)
		}
	}
	b.calls = append(b.calls, c)
	return &b.calls[len(b.calls)-1]
}

func (b *birth) point(to unsafe.Pointer) uintptr {
	b.keep = append(b.keep, to)
	return uintptr(to)
}

// addWait makes the child wait for proceed. If its parent is gone, it does not go on.
func (b *birth) addWait() {
	b.add("wait for gocker", unix.SYS_READ, b.theirs, unsafe.Pointer(&b.word), 1).least = 1
}

// addReport makes the child say that it is so far.
func (b *birth) addReport() {
	b.add("answer gocker", unix.SYS_WRITE, b.theirs, unsafe.Pointer(&b.report), unsafe.Sizeof(b.report))
}

// cloneArgs are those of clone3(2).
type cloneArgs struct {
	flags, pidfd, childTid, parentTid, exitSignal, stack, stackSize, tls, setTid, setTidSize, cgroup uint64
}

// clone makes the child, in its cgroup where that can be: CLONE_INTO_CGROUP in clone3(2), for v2, since Linux 5.7. Where
// that is refused, by the kernel or by a seccomp filter, it begins with the way through the doors. The thread must be
// locked. Signals are blocked, here for this moment and in the child until its list ends: the handlers are Go's, and
// need all of Go.
func (b *birth) clone(flags int, place opened) (pid int, pidfd *os.File, err error) {
	all, before := new(unix.Sigset_t), new(unix.Sigset_t)
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, all, before); err != nil {
		return 0, nil, fmt.Errorf("block signals: %w", err)
	}
	defer unix.PthreadSigmask(unix.SIG_SETMASK, before, nil)
	fd := new(int32)
	args := &cloneArgs{
		flags: uint64(flags) | unix.CLONE_PIDFD, pidfd: uint64(b.point(unsafe.Pointer(fd))), exitSignal: uint64(unix.SIGCHLD),
	}
	errno := syscall.ENOSYS
	if place.folder != nil {
		into := *args
		into.flags, into.cgroup = args.flags|unix.CLONE_INTO_CGROUP, uint64(place.folder.Fd())
		b.first = len(place.doors)
		pid, errno = b.fork(&into)
	}
	if errno != 0 {
		b.first = 0
		pid, errno = b.fork(args)
	}
	if errno != 0 {
		return 0, nil, errno
	}
	return pid, os.NewFile(uintptr(*fd), "pidfd"), nil
}

// fork returns in the parent only. What it calls in the child may not even grow the stack: go:nosplit makes the linker
// see to that.
//
//go:norace
//go:nosplit
func (b *birth) fork(args *cloneArgs) (pid int, errno syscall.Errno) {
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
	for i := b.first; i < len(b.calls); i++ {
		c := &b.calls[i]
		r, _, errno := unix.RawSyscall6(c.number, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
		if errno == 0 && r >= c.least {
			continue
		}
		missing := errno == unix.ENOENT || errno == unix.ENOTDIR
		if !missing || b.report.errno == 0 { // of several files, one that is there says more than one that is not
			b.report.call, b.report.errno = uint32(i), uint32(errno)
		}
		if !c.orNext || !missing && errno != unix.EACCES {
			break
		}
	}
	unix.RawSyscall(unix.SYS_WRITE, uintptr(b.theirs), uintptr(unsafe.Pointer(&b.report)), unsafe.Sizeof(b.report))
	for {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 1, 0, 0)
	}
}
