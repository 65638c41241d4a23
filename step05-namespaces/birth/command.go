//go:build linux

package birth

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Hide hides the child's copy of our memory from processes of the container that it is born into. See prctl(2).
func (l *List) Hide() {
	l.Add("prctl PR_SET_DUMPABLE", unix.SYS_PRCTL, unix.PR_SET_DUMPABLE, 0)
	// Our side of the socket is in its copy too. With that open it would never hear that we have died.
	l.Add("close gocker's side of the socket", unix.SYS_CLOSE, int(l.ours.Fd()))
}

// DieWithParent has the child die with the thread that made it. See PR_SET_PDEATHSIG in prctl(2).
func (l *List) DieWithParent() {
	l.bound = true
	l.Add("prctl PR_SET_PDEATHSIG", unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL))
}

// CloseAll closes all files that the child has from gocker, and from the process that started gocker, except its standard
// streams: no open file in a container, and no name in /proc/self/fd, may lead to the host. The socket closes at
// execve(2), and so do the kept files.
func (l *List) CloseAll() {
	const what = "close inherited files"
	from := 3
	for _, fd := range slices.Sorted(slices.Values(append(l.kept, l.theirs))) {
		if fd > from {
			l.Add(what, unix.SYS_CLOSE_RANGE, from, fd-1, 0)
		}
		from = max(from, fd+1)
	}
	l.Add(what, unix.SYS_CLOSE_RANGE, from, uintptr(^uint32(0)), 0)
}

// sigsetSize is how large the kernel has a set of signals, in bytes.
const sigsetSize = 8

// DefaultSignals undoes what gocker, or the process that started it, does at a signal. Handlers end with execve(2), but an
// ignored signal stays ignored: if that were SIGPIPE, "yes | head" would not end.
func (l *List) DefaultSignals() {
	byDefault := new([4]uint64) // a struct sigaction with SIG_DFL, which is 0
	for sig := 1; sig <= 64; sig++ {
		if sig != int(unix.SIGKILL) && sig != int(unix.SIGSTOP) {
			l.Add("sigaction", unix.SYS_RT_SIGACTION, sig, unsafe.Pointer(byDefault), 0, sigsetSize)
		}
	}
}

// startLimit is the limit of open files that this program was started with. A Go program takes the higher one at its start, and
// keeps it: gocker opens a file for each level of folders. Only package syscall knows the former one. It gives that back where it
// executes something, so here it is asked to execute nothing. See https://go.dev/issue/46279.
var startLimit = func() (limit unix.Rlimit) {
	var higher unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &higher)
	syscall.Exec("", nil, nil)
	unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	// Not by package syscall: it would forget the former limit, and programs that are started by os/exec get that from it.
	unix.RawSyscall6(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&higher)), 0, 0, 0)
	return limit
}()

// DefaultLimit gives back the limit of open files that gocker was started with.
func (l *List) DefaultLimit() {
	l.Add("give back the limit of open files", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NOFILE, unsafe.Pointer(&startLimit), 0)
}

// ChangeFolder changes to the working folder. Then that must have a name inside: what getcwd(2) has for one that is not
// below the root folder is "(unreachable)…", and that is no folder's.
func (l *List) ChangeFolder(folder string) {
	name := new([unix.PathMax]byte)
	what := fmt.Sprintf("change to the working folder %q", folder)
	l.Add(what, unix.SYS_CHDIR, folder)
	l.Add(what, unix.SYS_GETCWD, unsafe.Pointer(name), len(name))
	l.Add(what+", which is outside of the container", unix.SYS_CHDIR, unsafe.Pointer(name))
}

// Exec executes a command as execvp(3) does: where its name has no slash, the first one that is found in PATH. Signals
// may come from then on.
func (l *List) Exec(args, env []string) error {
	argv, err := syscall.SlicePtrFromStrings(args)
	if err != nil {
		return fmt.Errorf("arguments %q: %w", args, err)
	}
	envp, err := syscall.SlicePtrFromStrings(env)
	if err != nil {
		return fmt.Errorf("environment %q: %w", env, err)
	}
	if l.bound { // a change of user makes it forget that
		l.DieWithParent()
	}
	l.Add("unblock signals", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, unsafe.Pointer(new(unix.Sigset_t)), 0, sigsetSize)
	for _, path := range Candidates(args[0], env) {
		l.Add(path, unix.SYS_EXECVE, path, unsafe.Pointer(&argv[0]), unsafe.Pointer(&envp[0])).orNext = true
	}
	return nil
}

// Candidates are the files that a command may be, in the order of PATH. There is always one.
func Candidates(command string, env []string) []string {
	if command == "" || strings.Contains(command, "/") {
		return []string{command}
	}
	var paths []string
	for _, dir := range filepath.SplitList(SearchPath(env)) {
		paths = append(paths, filepath.Join(dir, command))
	}
	if len(paths) == 0 {
		return []string{""}
	}
	return paths
}

// SearchPath is the value of PATH, the last one as the shells see it.
func SearchPath(env []string) (path string) {
	for _, variable := range env {
		if value, ok := strings.CutPrefix(variable, "PATH="); ok {
			path = value
		}
	}
	return path
}
