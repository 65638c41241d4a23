//go:build linux

// Package readonly makes the running program a file that cannot be written through it. A program that imports it has that.
//
// /proc/{pid}/exe is the file that a process executes, and not by its name: it leads there out of any root folder. An
// image whose command is a script with "#!/proc/self/exe" has gocker itself run in the container, as the host's root; a
// process beside it opens /proc/{pid}/exe, waits until nobody executes that any more, writes to it, and at the next
// start of gocker the host is its own. That is CVE-2019-5736.
//
// A file that was opened through a read-only mount is read-only, whoever opens it again. So the program has the kernel
// mount its file once more, read-only and without a name, and executes it from there. See open_tree(2) and
// mount_setattr(2).
//
// It does so before most other packages have begun, whose work would be for nothing. Go initializes first, in the order
// of their names, those packages whose imports are initialized; so this one imports nothing but syscall. See "Program
// initialization" in the Go specification. Commands that only show something do without it.
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
)

func init() {
	self, err := syscall.Open("/proc/self/exe", oPath|syscall.O_CLOEXEC, 0)
	if err != nil {
		return // no /proc: no container either
	}
	defer syscall.Close(self)
	if isReadonly(self) {
		// The kernel has named this process after the number of a descriptor.
		syscall.RawSyscall(syscall.SYS_PRCTL, prSetName, pointer("gocker"), 0)
		return
	}
	args, err := arguments()
	if err != nil || onlyLooks(args) {
		return
	}
	// A user who may not mount cannot run containers, and for a kernel that is too old all will say so.
	tree, _, errno := syscall.Syscall(sysOpenTree, uintptr(self), pointer(""), openTreeClone|atEmptyPath|syscall.O_CLOEXEC)
	if errno != 0 {
		return
	}
	defer syscall.Close(int(tree))
	attr := struct{ set, clear, propagation, userns uint64 }{set: mountAttrRdonly}
	_, _, errno = syscall.Syscall6(sysMountSetattr, tree, pointer(""), atEmptyPath, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 || !isReadonly(int(tree)) {
		return
	}
	execute(int(tree), args)
}

// onlyLooks tells whether a command only shows something: it starts nothing, and no thread of it enters a container. To a
// container it is a program like any other of the host's, and one that starts once takes half the time.
func onlyLooks(args []string) bool {
	if len(args) < 2 {
		return false // as when gocker starts itself
	}
	switch args[1] {
	case "--version", "version", "ps", "images", "inspect", "logs":
		return true
	}
	return false
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
	name := ""
	for ; fd > 0 || name == ""; fd /= 10 {
		name = string(rune('0'+fd%10)) + name
	}
	syscall.Exec("/proc/self/fd/"+name, args, syscall.Environ())
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
