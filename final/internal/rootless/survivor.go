//go:build linux

package rootless

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"gocker/final/internal/enter"
)

// survivor finds a process that has the lock and is in the user's namespaces, if the holder was killed. Else the next command would
// make others, and nobody would ever get into those of the containers that run. It is a pidfd; nil if nobody is left.
func survivor(lock *os.File) (*os.File, error) {
	wanted, err := lock.Stat()
	if err != nil {
		return nil, err
	}
	own, err := os.Readlink("/proc/self/ns/user")
	if err != nil {
		return nil, err
	}
	held, err := filepath.Glob(fmt.Sprintf("/proc/[0-9]*/fd/%d", enter.Highest)) // without what other users have
	if err != nil {
		return nil, err
	}
	for _, file := range held {
		process := filepath.Dir(filepath.Dir(file))
		var pid int
		fmt.Sscan(filepath.Base(process), &pid)
		fd, err := unix.PidfdOpen(pid, 0) // first: from here on nobody else has the number
		if err != nil {
			continue
		}
		found := os.NewFile(uintptr(fd), "pidfd")
		info, err := os.Stat(file)
		in, nsErr := os.Readlink(filepath.Join(process, "ns", "user"))
		if err == nil && nsErr == nil && os.SameFile(info, wanted) && in != own && !enter.HasEnded(fd) {
			return found, nil
		}
		found.Close() // it is another user's, or a command that is about to go in
	}
	return nil, nil
}
