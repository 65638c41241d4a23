//go:build linux

package tiny

import (
	"os"
	"syscall"
	"unsafe"
)

// NewFile makes a file in memory that can be executed: folders that we may write to may be mounted noexec.
func NewFile(name string) (*os.File, error) {
	const cloexec, allowSealing, exec = 1, 2, 0x10 // the kernel's include/uapi/linux/memfd.h
	fd, err := memfd(name, cloexec|allowSealing|exec)
	if err == syscall.EINVAL { // before Linux 6.3 every one could be executed
		fd, err = memfd(name, cloexec|allowSealing)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(fd, name), nil
}

func memfd(name string, flags uintptr) (fd uintptr, err error) {
	text, err := syscall.BytePtrFromString(name)
	if err != nil {
		return 0, err
	}
	fd, _, errno := syscall.Syscall(memfdCreate, uintptr(unsafe.Pointer(text)), flags, 0)
	if errno != 0 {
		return 0, errno
	}
	return fd, nil
}
