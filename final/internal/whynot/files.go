//go:build linux

package whynot

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
)

// MoreFiles adds to an error of a process that has too many files open how many it should be allowed. It may have inherited all that
// it has: so it needs as many again. See getrlimit(2).
func MoreFiles(err error) error {
	const least = 1024
	var limit unix.Rlimit
	if !errors.Is(err, unix.EMFILE) || unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return err
	}
	return advice.Add(err, "allow more files: ulimit -n %d", max(2*limit.Cur, least))
}

// CanOpen is an error if this process cannot have as many more files open as a Go program needs before it can say that it has too
// few: it ends with a stack then.
func CanOpen() error {
	const fewest = 4
	return MoreFiles(canOpen(fewest))
}

func canOpen(files int) error {
	if files == 0 {
		return nil
	}
	null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT { // a root folder with nothing in it
		return advice.Add(&os.PathError{Op: "open", Path: os.DevNull, Err: err}, "gocker wants a /dev, a /proc and a /sys: mount --rbind /dev ROOT/dev, and the others likewise")
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	defer unix.Close(null)
	return canOpen(files - 1)
}
