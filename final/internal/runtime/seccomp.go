//go:build linux

package runtime

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/seccomp"
	"gocker/step04-overlay/check"
	"gocker/step05-namespaces/birth"
	"gocker/step05-namespaces/namespaces"
)

// filtered is the part of a filter of system calls. denied hears what it denies, if that is not nil; else it asks nobody,
// and may outlive us. The filter needs CAP_SYS_ADMIN, if there is no no_new_privs, so it comes before the user.
func filtered(spec *specs.LinuxSeccomp, denied *denials) namespaces.Part {
	compiled := check.Elsewhere(func() (filter, error) { return compileFilter(spec, denied != nil) })
	return namespaces.Part{
		Last: func(list *birth.List) error {
			f, err := compiled()
			switch {
			case err != nil:
				return err
			case f.asks != 0:
				addListening(list, f.SockFprog)
			case f.SockFprog != nil:
				list.Add("load the seccomp filter", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, unsafe.Pointer(f.SockFprog))
			}
			return nil
		},
		Sent: func(listener *os.File) {
			f, _ := compiled() // it was loaded
			go denied.listen(listener, f.asks)
		},
	}
}

// A filter is compiled. asks is the error that it denies calls with after it has asked us, 0 if it does not ask: see
// askInstead.
type filter struct {
	*unix.SockFprog
	asks syscall.Errno
}

// compileFilter compiles the spec's filter, if it has one.
func compileFilter(spec *specs.LinuxSeccomp, ask bool) (f filter, err error) {
	if spec == nil {
		return filter{}, nil
	}
	program, err := seccomp.Compile(spec)
	if err != nil {
		return filter{}, fmt.Errorf("seccomp filter: %w", err)
	}
	if ask {
		f.asks = askInstead(program, spec)
	}
	f.SockFprog = &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	return f, nil
}
