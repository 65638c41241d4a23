//go:build linux

package whynot

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"
	"unsafe"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/capabilities"
)

// execve(2) has few numbers for many mistakes: ENOENT is a file that is not there, one that begins with
// "#!/bin/bash\r", and one whose loader is another C library's. So where it failed, an examination looks at the file, as
// the kernel did and in its order. It is asked after the fact, so it can only be wrong about files that somebody
// changed in between.

// A fault is the reason why a file is not executed, and what to do about it; without a reason there is none.
type fault struct{ reason, todo string }

// An examination looks for faults in files that user was to execute. It needs a thread of its own.
type examination struct {
	errno syscall.Errno // what execve(2) said
	user  specs.User
}

// maxInterpreters is how deep the kernel follows interpreters of interpreters: exec_binprm in its fs/exec.c.
const maxInterpreters = 5

// file finds the fault of a file that is there, if only as a link. depth counts the files that needed it.
func (e examination) file(path string, depth int) fault {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		to, _ := os.Readlink(path) // it is a link
		return fault{fmt.Sprintf("it is a symbolic link to %q, which is not in the image", to), "make the link again, or add the file that it leads to"}
	case errors.Is(err, unix.ELOOP):
		return fault{"its symbolic links lead in a circle", "make the link anew"}
	case err != nil:
		return fault{err.Error(), "name a program"}
	case info.IsDir():
		return fault{"it is a directory", "name a program in it"}
	case !info.Mode().IsRegular():
		return fault{fmt.Sprintf("it is a %s, not a program", fileType(info.Mode())), "name a program"}
	}
	if f := e.permission(path, info); f.reason != "" {
		return f
	}
	if depth > maxInterpreters {
		return fault{"that is one interpreter of an interpreter too many", "name a program as the interpreter, not a script"}
	}
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // does not block, should it be a fifo by now
	if err != nil {
		return fault{"it cannot be read: " + err.Error(), "look at it from the host"}
	}
	defer file.Close()
	head := make([]byte, 256) // all that the kernel looks at: BINPRM_BUF_SIZE
	n, err := io.ReadFull(file, head)
	switch head = head[:n]; {
	case err != nil && err != io.EOF && err != io.ErrUnexpectedEOF:
		return fault{"it cannot be read: " + err.Error(), "is the disk all right? look at dmesg"}
	case n == 0:
		return fault{"the file is empty", "write it anew: was the disk full?"}
	case bytes.HasPrefix(head, []byte("#!")):
		return e.script(path, head, depth)
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		return e.program(file, head, depth)
	}
	return foreign(path, head)
}

func fileType(mode fs.FileMode) string {
	switch mode.Type() {
	case fs.ModeNamedPipe:
		return "fifo"
	case fs.ModeSocket:
		return "socket"
	}
	return "device"
}

// permission finds out why the kernel does not let the user execute a file, whatever is in it.
func (e examination) permission(path string, info fs.FileInfo) fault {
	var at unix.Statfs_t
	if err := unix.Statfs(path, &at); err == nil && at.Flags&unix.ST_NOEXEC != 0 {
		point := mountPoint(path)
		return fault{fmt.Sprintf("it is on %q, which is mounted noexec", point), "put it elsewhere, or mount that with the option exec"}
	}
	real, _ := filepath.EvalSymlinks(path)
	defer e.asUser()()
	may := func(path string) bool { return unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS) == nil }
	if may(path) {
		return fault{}
	}
	// The folders on the way need an x too: on the way to a link, and on that to where it leads.
	for _, way := range []string{path, real} {
		for i := 1; i < len(way); i++ {
			if folder, err := os.Stat(way[:i]); way[i] == '/' && err == nil && !may(way[:i]) {
				return fault{
					fmt.Sprintf("the folder %q, %s, is closed to user %d", way[:i], ownership(folder), e.user.UID),
					fmt.Sprintf("open it (chmod a+x %q), or choose another user (--user)", way[:i]),
				}
			}
		}
	}
	who := "anybody"
	if info.Mode()&0o111 != 0 {
		who = fmt.Sprintf("user %d", e.user.UID)
	}
	return fault{
		fmt.Sprintf("the file, %s, has no x for %s", ownership(info), who),
		fmt.Sprintf("make it executable: chmod a+x %q (in a Dockerfile: COPY --chmod=755)", path),
	}
}

// ownership tells a file's owner, and the rights of all users.
func ownership(info fs.FileInfo) string {
	stat := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("mode %04o of %d:%d", stat.Mode&0o7777, stat.Uid, stat.Gid)
}

// asUser has the kernel look at this thread's file permissions as if it were the user, until back is called: see
// setfsuid(2). While the id is not 0, the capabilities that override permissions are not in effect.
func (e examination) asUser() (back func()) {
	if groups := e.user.AdditionalGids; len(groups) > 0 {
		// unix.Setgroups would change all threads. They stay: where the id is 0 they make no difference.
		unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(unsafe.Pointer(&groups[0])), 0)
	}
	unix.Setfsgid(int(e.user.GID))
	unix.Setfsuid(int(e.user.UID))
	return func() { unix.Setfsuid(0); unix.Setfsgid(0) }
}

// mountPoint is the folder where the mount of a file begins. The thread cannot read its mountinfo: the container's /proc
// shows only processes of its pid namespace.
func mountPoint(path string) string {
	mount := func(path string) uint64 {
		var stat unix.Statx_t
		unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &stat) // a kernel before 5.8 leaves it 0: then it is "/"
		return stat.Mnt_id
	}
	path, _ = filepath.EvalSymlinks(path)
	at, _ := filepath.Abs(path)
	for at != "/" && mount(at) == mount(filepath.Dir(at)) {
		at = filepath.Dir(at)
	}
	return at
}

// script reads the line "#!interpreter argument" as the kernel does: see execve(2), "Interpreter scripts", and its
// fs/binfmt_script.c.
func (e examination) script(path string, head []byte, depth int) fault {
	text, _, whole := bytes.Cut(head[2:], []byte("\n"))
	line := strings.Trim(string(text), " \t")
	name := line
	if end := strings.IndexAny(line, " \t\x00"); end >= 0 {
		name = line[:end]
	}
	switch {
	case strings.HasSuffix(line, "\r"):
		return fault{
			fmt.Sprintf("its first line, %q, ends with CR LF, as lines on Windows do; the kernel takes the CR for a part of the name", "#!"+line),
			fmt.Sprintf("take the CRs away: sed -i 's/\\r$//' %q (and in .gitattributes: *.sh text eol=lf)", path),
		}
	case name == "":
		return fault{fmt.Sprintf("its first line, %q, names no interpreter", "#!"+line), "write one: #!/bin/sh"}
	case !whole && name == line && len(head) == cap(head):
		return fault{fmt.Sprintf("its first line is longer than the %d bytes that the kernel reads", len(head)), "give the interpreter a shorter name, with a link"}
	}
	return e.interpreter(name, fmt.Sprintf("its first line, %q, names the interpreter %q", "#!"+line, name), depth)
}

// interpreter finds the fault of a file that another one needs.
func (e examination) interpreter(name, needed string, depth int) fault {
	if _, err := os.Lstat(name); err == nil {
		f := e.file(name, depth+1)
		if f.reason != "" {
			f.reason = needed + ": " + f.reason
		}
		return f
	}
	f := fault{needed + ", which is not in the image", "install it, or name another one"}
	if !filepath.IsAbs(name) {
		f.reason = needed + ", which is not in the working folder, and PATH does not count here"
	}
	if found := programsNamed(filepath.Base(name)); len(found) > 0 {
		f.todo = "the image has " + quoted(found) + ": name that, or, to have it looked for in PATH: #!/usr/bin/env " + filepath.Base(name)
	}
	return f
}

// architectures are Go's and the image specification's names of what ELF calls machines.
var architectures = map[elf.Machine]string{
	elf.EM_386: "386", elf.EM_X86_64: "amd64", elf.EM_ARM: "arm", elf.EM_AARCH64: "arm64", elf.EM_LOONGARCH: "loong64",
	elf.EM_MIPS: "mips", elf.EM_PPC64: "ppc64le", elf.EM_RISCV: "riscv64", elf.EM_S390: "s390x",
}

// program looks at an ELF file: see elf(5), and the kernel's fs/binfmt_elf.c.
func (e examination) program(file io.ReaderAt, head []byte, depth int) fault {
	if e.errno == unix.ENOEXEC || e.errno == unix.ELIBBAD {
		if len(head) < 20 {
			return fault{fmt.Sprintf("it is a program that ends after %d bytes", len(head)), "write it anew: something broke off"}
		}
		var order binary.ByteOrder = binary.LittleEndian
		if elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2MSB {
			order = binary.BigEndian
		}
		typ, machine := elf.Type(order.Uint16(head[16:])), elf.Machine(order.Uint16(head[18:]))
		if architecture := cmp.Or(architectures[machine], machine.String()); architecture != runtime.GOARCH {
			return fault{
				fmt.Sprintf("it is a program for %s, and this machine is %s", architecture, runtime.GOARCH),
				fmt.Sprintf("take the image for linux/%s (gocker pull --platform linux/%[1]s), or install an emulator (qemu-user-static)", runtime.GOARCH),
			}
		}
		if typ != elf.ET_EXEC && typ != elf.ET_DYN {
			what := map[elf.Type]string{elf.ET_REL: "an object file", elf.ET_CORE: "a core dump"}[typ]
			return fault{"it is " + cmp.Or(what, "of the type "+typ.String()) + ", not a program", "name the program that the linker made of it"}
		}
	}
	program, err := elf.NewFile(file)
	if err != nil {
		return fault{"it is a damaged program: " + err.Error(), "write it anew: something broke off, or changed it as if it were text"}
	}
	for _, segment := range program.Progs {
		if segment.Type != elf.PT_INTERP {
			continue
		}
		name, err := io.ReadAll(io.LimitReader(segment.Open(), unix.PathMax))
		if err != nil || len(name) == 0 {
			return fault{"it is a damaged program: it does not say which loader it needs", "write it anew"}
		}
		loader := unix.ByteSliceToString(name)
		f := e.interpreter(loader, fmt.Sprintf("it needs the loader %q", loader), depth)
		if strings.HasSuffix(f.reason, "not in the image") {
			f.todo = otherLibrary(loader)
		}
		return f
	}
	if e.errno == unix.ENOEXEC {
		return fault{"its program headers are damaged", "write it anew"}
	}
	return fault{}
}

// otherLibrary tells what to do about a program that is linked with a C library that the image does not have. A loader
// belongs to one of them: see ld.so(8).
func otherLibrary(loader string) string {
	library, take := "another C library", "an image that has it"
	switch {
	case strings.Contains(loader, "ld-musl"):
		library, take = "musl", "an image that has musl (alpine)"
	case strings.Contains(loader, "ld-linux") || strings.Contains(loader, "ld64"):
		library, take = "glibc", "an image that has glibc (debian)"
	}
	has := ""
	if musl, _ := filepath.Glob("/lib/ld-musl-*"); len(musl) > 0 && library == "glibc" {
		has = ", and this image has musl"
	}
	return fmt.Sprintf("it was linked with %s%s: take %s, or link it statically (Go: CGO_ENABLED=0)", library, has, take)
}

// foreigners begin with what is no program for Linux.
var foreigners = []struct{ magic, what, todo string }{
	{"MZ", "a program for Windows", "build it for Linux (Go: GOOS=linux)"},
	{"\xcf\xfa\xed\xfe", "a program for macOS", "build it for Linux (Go: GOOS=linux)"},
	{"\xce\xfa\xed\xfe", "a program for macOS", "build it for Linux (Go: GOOS=linux)"},
	{"\xca\xfe\xba\xbe", "a program for macOS, or a Java class", "build it for Linux (Go: GOOS=linux), or run it with java"},
	{"\x00asm", "WebAssembly", "run it with a WebAssembly runtime"},
	{"PK\x03\x04", "a zip archive", "unpack it; if it is a jar: java -jar"},
	{"\x1f\x8b", "a gzip archive", "unpack it"},
	{"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it"},
	{"\xfd7zXZ\x00", "an xz archive", "unpack it"},
	{"!<arch>\n", "a library or a Debian package", "install it"},
	{"version https://git-lfs", "a Git LFS pointer, not the file that it stands for", "fetch that: git lfs pull"},
	{"<!DOCTYPE html", "a web page", "look at it: was something downloaded that is not there any more?"},
	{"<html", "a web page", "look at it: was something downloaded that is not there any more?"},
	{"\xef\xbb\xbf#!", `a script, but a byte order mark stands before its "#!"`, "save it without one: sed -i '1s/^\\xef\\xbb\\xbf//' FILE"},
	{"\xff\xfe", "text in UTF-16", "save it as UTF-8"},
	{"\xfe\xff", "text in UTF-16", "save it as UTF-8"},
}

// foreign says what a file is that is neither a script nor ELF.
func foreign(path string, head []byte) fault {
	for _, f := range foreigners {
		if bytes.HasPrefix(head, []byte(f.magic)) {
			return fault{"it is " + f.what, f.todo}
		}
	}
	if !isText(head) {
		return fault{fmt.Sprintf("it begins with the bytes % x, and no program does so", head[:min(len(head), 8)]), "name a program"}
	}
	if line := bytes.TrimLeft(head, " \t\r\n"); bytes.HasPrefix(line, []byte("#!")) {
		return fault{`something stands before its "#!", so the kernel does not see it`, `let the file begin with "#!"`}
	}
	return fault{
		`it is text, and does not begin with "#!" and the name of a program that can read it`,
		fmt.Sprintf("let it begin with a line such as #!/bin/sh, or run: sh %q", path),
	}
}

// isText tells whether these are characters of UTF-8 only. At the end one may be cut.
func isText(head []byte) bool {
	for len(head) > 0 {
		r, size := utf8.DecodeRune(head)
		if r == utf8.RuneError && size == 1 && len(head) >= utf8.UTFMax || unicode.IsControl(r) && !unicode.IsSpace(r) {
			return false
		}
		head = head[size:]
	}
	return true
}

// capabilitiesOf finds a file whose capabilities the container may not have. If the program does not know of
// capabilities, execve(2) does not start it with less than all: see capabilities(7), "Safety checking for
// capability-dumb binaries".
func capabilitiesOf(path string, process *specs.Process) fault {
	// struct vfs_cap_data in linux/capability.h: a magic number, then permitted and inheritable, 32 bits each, twice.
	var raw [24]byte
	n, err := unix.Getxattr(path, "security.capability", raw[:])
	if err != nil || n < 20 || process.Capabilities == nil {
		return fault{}
	}
	permitted := uint64(binary.LittleEndian.Uint32(raw[4:])) | uint64(binary.LittleEndian.Uint32(raw[12:]))<<32
	var missing []string
	for c := capability.Cap(0); c < 64; c++ {
		if name := capabilities.Name(c); permitted&(1<<c) != 0 && !slices.Contains(process.Capabilities.Bounding, name) {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return fault{}
	}
	return fault{
		"the file has capabilities that this container may not have: " + strings.Join(missing, ", "),
		fmt.Sprintf("allow them (--cap-add %s), or take them from the file (setcap -r %q)", strings.Join(missing, ","), path),
	}
}
