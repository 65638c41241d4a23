//go:build linux

package whynot

import (
	"errors"

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
