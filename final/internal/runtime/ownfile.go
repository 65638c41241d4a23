//go:build linux

package runtime

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"gocker/final/internal/readonly"
	"gocker/step01-pull/shared/advice"
	"gocker/step05-namespaces/birth"
	"gocker/step05-namespaces/namespaces"
)

// A process that we make executes gocker's file, until it executes its command. Whoever finds it by /proc/{pid}/exe could write it:
// see package readonly. So first of all the process gets another file in place of that, which nobody can write. The kernel lets
// no process change that whose memory still has parts of the old one. The code, and all that is only read, the process has
// mapped anew from the other, at the same place, and in one step: it is the same file, and the code goes on in the middle of
// itself. What may be written, Go's variables, it gives up: the calls of a list need none of them.

// ownFile is the part that does so. Where the kernel does not allow it, package readonly has seen to gocker itself.
func ownFile() namespaces.Part {
	var file *os.File
	var mapped []mapping
	return namespaces.Part{
		Outside: func() error {
			if !readonly.CanReplace() {
				return nil
			}
			fd, err := readonly.Open()
			if err != nil { // so it would be for a process that has it from another mount namespace
				return advice.Add(fmt.Errorf("open gocker's own file read-only: %w", err), "start gocker by the name of its file")
			}
			file = os.NewFile(uintptr(fd), "gocker")
			mapped, err = ownMappings()
			return err
		},
		First: func(list *birth.List) error {
			if file == nil {
				return nil
			}
			fd := int(file.Fd())
			for _, m := range mapped {
				if m.protection&unix.PROT_WRITE != 0 {
					list.Add("unmap variables", unix.SYS_MUNMAP, m.from, m.to-m.from)
				} else {
					list.Add("map gocker's file", unix.SYS_MMAP, m.from, m.to-m.from, m.protection, unix.MAP_PRIVATE|unix.MAP_FIXED, fd, m.offset)
				}
			}
			change := readonly.NewChange(fd)
			list.Add("prctl PR_SET_MM_MAP", unix.SYS_PRCTL, unix.PR_SET_MM, unix.PR_SET_MM_MAP, unsafe.Pointer(change), unsafe.Sizeof(*change), 0)
			return nil
		},
		Done: func(error) { file.Close() }, // of nil it does nothing
	}
}

// A mapping is a piece of this process's memory that has a piece of a file.
type mapping struct {
	from, to, offset uintptr
	protection       int
}

// ownMappings are those of the file that this code is in. See proc_pid_maps(5).
func ownMappings() ([]mapping, error) {
	raw, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil, err
	}
	code := uint64(reflect.ValueOf(ownMappings).Pointer())
	ofFile := map[string][]mapping{}
	own := ""
	for line := range strings.Lines(string(raw)) {
		fields := strings.Fields(line) // from-to, rwxp, offset, device, inode, name
		if len(fields) < 5 || fields[4] == "0" {
			continue // no file
		}
		first, second, _ := strings.Cut(fields[0], "-")
		from, fromErr := strconv.ParseUint(first, 16, 64)
		to, toErr := strconv.ParseUint(second, 16, 64)
		offset, offsetErr := strconv.ParseUint(fields[2], 16, 64)
		if err := errors.Join(fromErr, toErr, offsetErr); err != nil {
			return nil, fmt.Errorf("read /proc/self/maps: %w", err)
		}
		m := mapping{from: uintptr(from), to: uintptr(to), offset: uintptr(offset)}
		for letter, protection := range map[string]int{"r": unix.PROT_READ, "w": unix.PROT_WRITE, "x": unix.PROT_EXEC} {
			if strings.Contains(fields[1], letter) {
				m.protection |= protection
			}
		}
		file := fields[3] + " " + fields[4]
		ofFile[file] = append(ofFile[file], m)
		if from <= code && code < to {
			own = file
		}
	}
	return ofFile[own], nil
}
