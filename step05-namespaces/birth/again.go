//go:build linux

package birth

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Again has the child make a child of its own by clone(2) with more flags, and end. That one goes on with the list. It is our
// child, too. So a process gets into namespaces that belong to others which it has joined just before.
func (l *List) Again(flags int) {
	l.again = true
	// The kernel writes its number before it lives.
	const always = unix.CLONE_PARENT | unix.CLONE_PARENT_SETTID | int(unix.SIGCHLD)
	l.Add("clone once more", unix.SYS_CLONE, flags|always, 0, unsafe.Pointer(&l.report.born)).begets = true
}

// heir waits for the end of the child, which has nothing else to do, and returns the process that goes on.
func (l *List) heir(child *os.File) (pid int, pidfd *os.File, err error) {
	defer child.Close()
	var status unix.WaitStatus
	for {
		if _, err := unix.Wait4(l.pid, &status, 0, nil); err != unix.EINTR {
			break
		}
	}
	if status.ExitStatus() != 0 && l.report.gaveUp != 0 {
		return 0, nil, l.failed(*l.report)
	}
	if l.report.born == 0 {
		return 0, nil, errors.New("the first process ended early; a memory limit may be too small for it, or somebody killed it")
	}
	return l.goesOn(int(l.report.born))
}

// goesOn has a process take the child's place.
func (l *List) goesOn(pid int) (int, *os.File, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return 0, nil, fmt.Errorf("open the process %d: %w", pid, err)
	}
	l.pid = pid
	return pid, os.NewFile(uintptr(fd), "pidfd"), nil
}
