//go:build linux

package birth

import (
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A list may end with another program than the command. That program makes one more process, by clone(2) with CLONE_PARENT, so
// it is our child too, says which, and ends. The new one waits, and then becomes the command, or says what failed:
//
//	list.Keep(program)
//	socket, err := list.Pass()
//	list.Add("execute it", unix.SYS_EXECVEAT, …)
//	pid, pidfd, err := list.Follow(pidfd)

// Keep has the child keep a file open until execve(2).
func (l *List) Keep(f *os.File) { l.kept = append(l.kept, int(f.Fd())) }

// Pass has the socket stay open at the next execve(2), and returns its number.
func (l *List) Pass() (socket int, err error) {
	if err := unix.SetsockoptInt(int(l.ours.Fd()), unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		return 0, fmt.Errorf("have the kernel name who sends: %w", err)
	}
	l.Add("keep the socket", unix.SYS_FCNTL, l.theirs, unix.F_SETFD, 0)
	return l.theirs, nil
}

// Follow waits until the child says which process goes on in its place. From now on Read reads that process's reports. io.EOF
// says that the child has ended without a word. The new process is in the container already, and others in there may have taken
// its socket. So Follow believes only a report that the child has sent, as the kernel says: see SCM_CREDENTIALS in unix(7).
func (l *List) Follow(child *os.File) (pid int, pidfd *os.File, err error) {
	var r report
	raw, from := unsafe.Slice((*byte)(unsafe.Pointer(&r)), unsafe.Sizeof(r)), make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	for {
		ready := []unix.PollFd{{Fd: int32(l.ours.Fd()), Events: unix.POLLIN}, {Fd: int32(child.Fd()), Events: unix.POLLIN}}
		if _, err := unix.Poll(ready, -1); err == unix.EINTR {
			continue
		}
		n, m, _, _, err := unix.Recvmsg(int(l.ours.Fd()), raw, from, unix.MSG_DONTWAIT)
		if n <= 0 || err != nil {
			return 0, nil, io.EOF
		}
		messages, err := unix.ParseSocketControlMessage(from[:m])
		if err != nil || len(messages) != 1 {
			continue
		}
		if who, err := unix.ParseUnixCredentials(&messages[0]); err == nil && int(who.Pid) == l.pid {
			break
		}
	}
	if r.gaveUp != 0 {
		return 0, nil, l.failed(r)
	}
	// Nor does it believe any number: the child may be a user's by now, and processes of that user on the host may change it.
	pid = int(r.born)
	err = unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WNOTHREAD, nil)
	if err != nil || pid == l.pid {
		return 0, nil, errors.New("listen to the child: the process that it names is not of this thread")
	}
	l.passed = true
	return l.goesOn(pid)
}
