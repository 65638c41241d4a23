//go:build linux

// Package enter takes gocker into the namespaces of its user, which a process holds: see package rootless, which makes them.
//
// setns(2) takes only a process with one thread into a user namespace, and a Go program has several. So gocker executes a tiny
// program, which has one, goes in, and executes gocker again: the same process, with the same streams, terminal and number.
// See package usernamespace of step 3, and package tiny.
//
// So gocker begins twice, and the first time most of what it does before main is for nothing. Package early does this before.
// Go initializes first, in the order of their names, those packages whose imports are initialized; so this one imports little, and
// nothing that imports package unicode, which has the last name of all. See "Program initialization" in the Go specification.
package enter

import (
	"cmp"
	"errors"
	"os"
	"path"
	"slices"
	"strconv"
	"syscall"
	"unsafe"

	"gocker/final/internal/tiny"
	"gocker/step01-pull/shared/folders"
)

// What package syscall lacks: see the kernel's asm-generic/unistd.h, which has the numbers of newer system calls for all
// architectures, asm-generic/fcntl.h, and poll(2).
const (
	sysPidfdOpen = 434
	openPath     = 0o10000000
	pollIn       = 1
)

// outside are the commands that look at nothing of gocker's.
var outside = []string{"", "help", "--help", "-h", "--version", "version", "completion"}

// IsWanted tells whether a command is for the user's namespaces.
func IsWanted(args []string) bool { return len(args) > 0 && !slices.Contains(outside, args[0]) }

// begin are the commands that put processes into cgroups.
var begin = []string{"run", "start", "restart", "exec", "unshare", "learn"}

// Systemd is the folder with the socket of the user's systemd, which a command may have to ask for a cgroup: see package rootless.
func Systemd(args []string) (folder string, mayAsk bool) {
	folder = cmp.Or(os.Getenv("XDG_RUNTIME_DIR"), "/run/user/"+strconv.Itoa(os.Geteuid()))
	if !slices.ContainsFunc(args[:min(2, len(args))], func(word string) bool { return slices.Contains(begin, word) }) {
		return folder, false
	}
	_, err := os.Stat(path.Join(folder, "bus"))
	return folder, err == nil
}

// Early becomes gocker in the user's namespaces, if nothing is missing for that. Else it returns, and rootless.Enter does what is
// missing, or says so.
func Early() {
	args, home := os.Args[min(1, len(os.Args)):], os.Getenv("HOME")
	if os.Geteuid() == 0 || !IsWanted(args) || home == "" || os.Getenv(joining) != "" {
		return
	}
	if _, mayAsk := Systemd(args); mayAsk {
		return
	}
	root, run := folders.Default(home)
	fd, err := syscall.Open(LockName(run), syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	err = Lock(fd)
	syscall.Close(fd)
	if err != nil {
		return
	}
	if pid, pidfd, err := Process(Line()); err == nil {
		Join(root, run, pidfd, IsAlone(pid))
	}
	syscall.Close(Highest) // so its lock is gone, too
}

// Highest is the number that the lock's file gets: os/exec gives its own files the lowest, and shells do not go so far.
const Highest = 50

// LockName is the file that each process in the namespaces has locked.
func LockName(run string) string { return path.Join(run, "namespaces") }

// Lock locks this file, shared, for this process and for those that it starts. The error is EMFILE if ulimit -n does not allow that.
func Lock(fd int) error {
	if err := syscall.Dup3(fd, Highest, 0); err == syscall.EBADF {
		return syscall.EMFILE
	} else if err != nil {
		return err
	}
	return syscall.Flock(Highest, syscall.LOCK_SH) // waits for a holder that is about to end
}

// Line is what the lock's file says: of the holder, if there is one.
func Line() string {
	raw := make([]byte, 100)
	n, _ := syscall.Pread(Highest, raw, 0)
	return string(raw[:max(0, n)])
}

// LineOf is how a process is written down: its number, and when it was started.
func LineOf(pid int) string { return strconv.Itoa(pid) + " " + startOf(pid) + "\n" }

// Process finds the process that a line names, if it is still there.
func Process(line string) (pid, pidfd int, err error) {
	number := line[:max(0, slices.Index([]byte(line), ' '))]
	if pid, err = strconv.Atoi(number); err != nil {
		return 0, -1, os.ErrNotExist
	}
	fd, _, errno := syscall.Syscall(sysPidfdOpen, uintptr(pid), 0, 0)
	if errno != 0 {
		return 0, -1, errno
	}
	pidfd = int(fd)
	if line != LineOf(pid) || HasEnded(pidfd) { // it is another process by now, or somebody killed it
		return 0, -1, errors.Join(os.ErrNotExist, syscall.Close(pidfd))
	}
	return pid, pidfd, nil
}

// HasEnded tells whether the process of a pidfd has ended.
func HasEnded(pidfd int) bool {
	asked := struct {
		fd              int32
		events, happens int16
	}{int32(pidfd), pollIn, 0}
	var now syscall.Timespec
	n, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&asked)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return n != 0 || errno != 0
}

// startOf is when a process was started, in ticks since the machine was: see field 22 in proc_pid_stat(5).
func startOf(pid int) string {
	stat, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	name := 0
	for i, char := range stat {
		if char == ')' { // the last one ends field 2, which may have anything in it
			name = i
		}
	}
	fields := stat[name:]
	for range 22 - 2 {
		fields = fields[slices.Index(fields, ' ')+1:]
	}
	return string(fields[:max(0, slices.Index(fields, ' '))])
}

// IsAlone tells whether root is the only user in the namespace of a process.
func IsAlone(pid int) bool {
	said, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/setgroups")
	return err == nil && string(said) == "deny\n"
}

// NewProgram is a tiny program that makes these calls.
func NewProgram(name string, calls []tiny.Call) (*os.File, error) {
	const noSocket = 1 << 20 // the number of no open file: there is nobody to report to
	f, err := tiny.NewFile(name)
	if err == nil {
		_, err = f.Write(tiny.Child(noSocket, 0, calls))
	}
	return f, err
}

// joining is in the environment of the gocker that Join executes. The tiny program has no words for what it meets, so it goes on
// whatever happens. Package rootless has them.
const joining = "GOCKER_JOINING"

// How Join has executed gocker: ByFile is after it did not find the file of that name.
const (
	ByName = "by name"
	ByFile = "by file"
)

// Tried tells how, if Join has executed this program; "" if it has not. Nobody else hears of that.
func Tried() (how string) {
	how = os.Getenv(joining)
	os.Unsetenv(joining)
	return how
}

// Join becomes gocker in the namespaces of a process, with these folders. It returns only an error.
func Join(root, run string, pidfd int, alone bool) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	file, err := syscall.Open("/proc/self/exe", openPath, 0) // without O_CLOEXEC
	if err != nil {
		return err
	}
	if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(pidfd), syscall.F_SETFD, 0); errno != 0 {
		return errno
	}
	folder, _ := os.Getwd() // it may be gone
	const both = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS
	calls := []tiny.Call{
		{Number: tiny.Setns, Args: []any{pidfd, both}, Special: tiny.Tries},
		{Number: syscall.SYS_CHDIR, Args: []any{cmp.Or(folder, "/")}, Special: tiny.Tries}, // setns(2) has made it /
		{Number: syscall.SYS_CLOSE, Args: []any{pidfd}},
		{Number: syscall.SYS_FCNTL, Args: []any{file, syscall.F_SETFD, syscall.FD_CLOEXEC}},
	}
	if !alone {
		calls = append(calls, tiny.Call{Number: syscall.SYS_SETGROUPS, Args: []any{0, 0}, Special: tiny.Tries}) // the user's other groups have no number in there
	}
	env := append(os.Environ(), "GOCKER_ROOT="+root, "GOCKER_RUN="+run) // as root it would look below /var
	execute := func(path, how string) tiny.Call {
		return tiny.Call{Number: syscall.SYS_EXECVE, Args: []any{path, os.Args, slices.Concat(env, []string{joining + "=" + how})}, Special: tiny.Tries}
	}
	// By its name: the file that this process executes is of the mount namespace outside, and gocker protects its file by a mount.
	calls = append(calls, execute(self, ByName), execute("/proc/self/fd/"+strconv.Itoa(file), ByFile), tiny.Call{Number: syscall.SYS_EXIT_GROUP, Args: []any{125}})
	program, err := NewProgram("gocker-join", calls)
	if err != nil {
		return err
	}
	err = syscall.Exec("/proc/self/fd/"+strconv.Itoa(int(program.Fd())), []string{"gocker"}, []string{})
	return &os.PathError{Op: "execute", Path: "the program that joins the user namespace", Err: err}
}
