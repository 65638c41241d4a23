//go:build linux

package runtime

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step05-namespaces/birth"
	"gocker/step05-namespaces/namespaces"
)

// rlimitNumbers are the specification's names for getrlimit(2)'s limits.
var rlimitNumbers = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU, "RLIMIT_DATA": unix.RLIMIT_DATA,
	"RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS, "RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK,
	"RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE,
	"RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS, "RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO,
	"RLIMIT_RTTIME": unix.RLIMIT_RTTIME, "RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
}

// rlimits is the part of a process's own limits. The child sets them as long as it is root, and they go on to all that it
// starts.
func rlimits(process *specs.Process) namespaces.Part {
	return namespaces.Part{
		Last: func(list *birth.List) error {
			for _, l := range process.Rlimits {
				number, ok := rlimitNumbers[l.Type]
				if !ok {
					return fmt.Errorf("limit %q: %w", l.Type, ErrUnsupported)
				}
				what := fmt.Sprintf("set %s to %d, and at most %d", l.Type, l.Soft, l.Hard)
				list.Add(what, unix.SYS_PRLIMIT64, 0, number, unsafe.Pointer(&unix.Rlimit{Cur: l.Soft, Max: l.Hard}), 0)
			}
			return nil
		},
		Failed: func(err error) error {
			var failed birth.Failed
			if errors.As(err, &failed) && failed.Number == unix.SYS_PRLIMIT64 && failed.Errno == unix.EPERM {
				return advice.Add(err, "only a process with CAP_SYS_RESOURCE may raise a hard limit; ulimit -H -a says what yours are")
			}
			return err
		},
	}
}
