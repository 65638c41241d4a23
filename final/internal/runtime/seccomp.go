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
			go denied.listen(listener, f)
		},
	}
}

// A filter is compiled. asks is the error that it denies calls with after it has asked us, 0 if it does not ask. busy says
// that it asks about listeners, too.
type filter struct {
	*unix.SockFprog
	asks syscall.Errno
	busy bool
}

// compileFilter compiles the spec's filter, if it has one.
func compileFilter(spec *specs.LinuxSeccomp, ask bool) (f filter, err error) {
	if spec == nil {
		return filter{}, nil
	}
	if ask {
		f.asks = usualError(spec)
	}
	if f.asks != 0 && allows(spec, "seccomp") {
		spec, f.busy = askAboutListeners(spec), true
	}
	program, err := seccomp.Compile(spec)
	if err != nil {
		return filter{}, fmt.Errorf("seccomp filter: %w", err)
	}
	if f.asks != 0 {
		askInstead(program, f.asks)
		askInstead(program, wantsListener)
	}
	f.SockFprog = &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	return f, nil
}
