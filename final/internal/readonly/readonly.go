//go:build linux

// Package readonly has this program's file opened so that nobody can write it.
//
// /proc/{pid}/exe is the file that a process executes, and not by its name: it leads there out of any root folder. An
// image whose command is a script with "#!/proc/self/exe" has gocker itself run in the container, as the host's root; a
// process beside it opens /proc/{pid}/exe, waits until nobody executes that any more, writes to it, and at the next
// start of gocker the host is its own. That is CVE-2019-5736.
//
// A file that was opened through a read-only mount is read-only for every process that opens it again. So the kernel mounts the file
// once more, read-only and without a name: see Open, open_tree(2) and mount_setattr(2). A process that is made for a container
// gets that one in place of gocker's: see PR_SET_MM in prctl(2), and package runtime.
//
// Where the kernel does not allow that, a program that imports this package executes itself once more, from that mount. It does
// so before most other packages have begun, whose work would be for nothing. Go initializes first, in the order of their names,
// those packages whose imports are initialized; so this one imports nothing but syscall. See "Program initialization" in the
// Go specification. But this takes one or two milliseconds, so it is the second choice.
package readonly

import (
	"syscall"
	"unsafe"
)

// What package syscall lacks: see the kernel's include/uapi/linux/mount.h, fcntl.h and prctl.h, and asm-generic/unistd.h,
// which has the numbers of newer system calls for all architectures.
const (
	sysOpenTree     = 428
	sysMountSetattr = 442

	openTreeClone   = 1
	mountAttrRdonly = 1
	stRdonly        = 1
	oPath           = 0x200000
	atEmptyPath     = 0x1000
	prSetName       = 15
	prGetName       = 16
	prSetMM         = 35
	prSetMMMap      = 14
)

// self is the file that this process executes.
const self = "/proc/self/exe"

func init() {
	if CanReplace() {
		return
	}
	own, err := syscall.Open(self, oPath|syscall.O_CLOEXEC, 0)
	if err != nil {
		return // no /proc: no container either
	}
	defer syscall.Close(own)
	if isReadonly(own) {
		// If this is the second time, the kernel has named this process after the number of a descriptor.
		var name [16]byte
		syscall.RawSyscall(syscall.SYS_PRCTL, prGetName, uintptr(unsafe.Pointer(&name)), 0)
		if '0' <= name[0] && name[0] <= '9' {
			syscall.RawSyscall(syscall.SYS_PRCTL, prSetName, pointer("gocker"), 0)
		}
		return
	}
	// A user who may not mount cannot run containers, and for a kernel that is too old all will say so.
	tree, err := mount(own)
	if err != nil {
		return
	}
	defer syscall.Close(tree)
	if args, err := arguments(); err == nil {
		execute(tree, args)
	}
}

// A Change is what PR_SET_MM_MAP is told of the memory of a process: struct prctl_mm_map of the kernel's
// include/uapi/linux/prctl.h. All but the file is for tools that show the process.
type Change struct {
	addresses      [11]uint64
	auxv           uint64
	auxvSize, file uint32
}

// NewChange is one of the file that a process executes. Addresses that the kernel accepts are one for all, and the code is not empty.
func NewChange(fd int) *Change {
	c := &Change{file: uint32(fd)}
	for i := range c.addresses {
		c.addresses[i] = uint64(uintptr(unsafe.Pointer(c)))
	}
	const endOfCode = 1
	c.addresses[endOfCode]++
	return c
}

// CanReplace tells whether a process of ours may change it.
func CanReplace() bool {
	const none = -2 // that there is no such file is what the kernel looks at last
	c := NewChange(none)
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, prSetMM, prSetMMMap, uintptr(unsafe.Pointer(c)), unsafe.Sizeof(*c), 0, 0)
	return errno == syscall.EBADF
}

// Open opens this program's file: nobody who opens it again can write it. The caller closes it.
func Open() (fd int, err error) {
	own, err := syscall.Open(self, oPath|syscall.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer syscall.Close(own)
	tree, err := mount(own)
	if err != nil {
		return -1, err
	}
	defer syscall.Close(tree)
	return syscall.Open(link(tree), syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
}

// mount mounts a file once more, read-only.
func mount(file int) (tree int, err error) {
	fd, _, errno := syscall.Syscall(sysOpenTree, uintptr(file), pointer(""), openTreeClone|atEmptyPath|syscall.O_CLOEXEC)
	if errno != 0 {
		return -1, errno
	}
	attr := struct{ set, clear, propagation, userns uint64 }{set: mountAttrRdonly}
	_, _, errno = syscall.Syscall6(sysMountSetattr, fd, pointer(""), atEmptyPath, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno == 0 && !isReadonly(int(fd)) {
		errno = syscall.EINVAL
	}
	if errno != 0 {
		syscall.Close(int(fd))
		return -1, errno
	}
	return int(fd), nil
}

// isReadonly tells whether a file is on a read-only mount.
func isReadonly(fd int) bool {
	var fs syscall.Statfs_t
	return syscall.Fstatfs(fd, &fs) == nil && fs.Flags&stRdonly != 0
}

// arguments are os.Args, which package os does not know yet.
func arguments() (args []string, err error) {
	fd, err := syscall.Open("/proc/self/cmdline", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd)
	var raw []byte
	for buffer := make([]byte, 4096); ; {
		n, err := syscall.Read(fd, buffer)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		raw = append(raw, buffer[:n]...)
	}
	begin := 0
	for i, char := range raw {
		if char == 0 { // it ends each of them
			args = append(args, string(raw[begin:i]))
			begin = i + 1
		}
	}
	return args, nil
}

// execute returns only if it cannot. It is package syscall's Exec, which gives back the limit of open files that the
// package has raised for this program.
func execute(fd int, args []string) {
	syscall.Exec(link(fd), args, syscall.Environ())
}

// link is the name that a descriptor's file has for its process.
func link(fd int) string {
	name := ""
	for ; fd > 0 || name == ""; fd /= 10 {
		name = string(rune('0'+fd%10)) + name
	}
	return "/proc/self/fd/" + name
}

// keep holds what pointer has made.
var keep []*byte

func pointer(text string) uintptr {
	p, err := syscall.BytePtrFromString(text)
	if err != nil {
		return 0
	}
	keep = append(keep, p)
	return uintptr(unsafe.Pointer(p))
}
