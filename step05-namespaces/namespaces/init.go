//go:build linux

package namespaces

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/advice"
)

// initName is what the child is called until it executes its command; ps and lsns show it.
const initName = "gocker-init"

// What goes over the socket between parent and child, after the spec.
const (
	ready   = 'r' // child: all is set up (with the terminal's descriptor, if there is one)
	failed  = 'f' // child: it is not; a Failure follows as JSON
	ended   = 0   // child: it has closed its side
	proceed = 'g' // parent: execute the command
)

// A Failure is an error on its way from one process to another.
type Failure struct {
	Message, Advice         string
	NotFound, NotExecutable bool
}

// NewFailure packs an error.
func NewFailure(err error) Failure {
	return Failure{err.Error(), advice.Of(err), errors.Is(err, ErrNotFound), errors.Is(err, ErrNotExecutable)}
}

// Err unpacks it: the same message and advice, and ErrNotFound or ErrNotExecutable if it was one.
func (f Failure) Err() error {
	err := errors.New(f.Message)
	switch {
	case f.NotFound:
		err = remote{f.Message, ErrNotFound}
	case f.NotExecutable:
		err = remote{f.Message, ErrNotExecutable}
	}
	if f.Advice != "" {
		return advice.Add(err, "%s", f.Advice)
	}
	return err
}

// remote is an error whose text was made in another process.
type remote struct {
	message string
	is      error
}

func (r remote) Error() string { return r.message }
func (r remote) Unwrap() error { return r.is }

// Init does nothing, unless this process is the child of Create or of a check: then it never returns. main calls it
// first.
func Init() {
	switch os.Args[0] {
	case initName:
	case overlayProbe:
		probeOverlay(os.Args[1])
	default:
		return
	}
	// unshare(2), setns(2) and prctl(2) are about the calling thread: from here on there is only this one.
	runtime.LockOSThread()
	socket := os.NewFile(3, "gocker")
	unix.CloseOnExec(3)
	err := initialize(socket)
	message, _ := json.Marshal(NewFailure(err)) // strings and booleans can always be encoded
	socket.Write(append([]byte{failed}, message...))
	os.Exit(1)
}

// initialize makes the container from inside, and becomes its command. It returns only an error.
func initialize(socket *os.File) error {
	var spec specs.Spec
	if err := json.NewDecoder(socket).Decode(&spec); err != nil {
		return fmt.Errorf("read the spec: %w", err) // the parent died
	}
	has := func(t specs.LinuxNamespaceType) bool {
		return slices.ContainsFunc(spec.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == t })
	}
	// Not by clone: then the parent's cgroup would be the root that the container sees. By now we are in our own.
	if has(specs.CgroupNamespace) {
		if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
			return fmt.Errorf("unshare the cgroup namespace: %w", err)
		}
	}
	if has(specs.UTSNamespace) {
		if err := unix.Sethostname([]byte(spec.Hostname)); err != nil {
			return fmt.Errorf("set host name %q: %w", spec.Hostname, err)
		}
	}
	if has(specs.NetworkNamespace) {
		if err := loopbackUp(); err != nil {
			return fmt.Errorf("bring up the loopback interface: %w", err)
		}
	}
	if err := enterRootfs(&spec); err != nil {
		return err
	}
	var rights []byte
	if spec.Process.Terminal {
		master, err := takeTerminal(spec.Process)
		if err != nil {
			return fmt.Errorf("open a terminal: %w", err)
		}
		rights = unix.UnixRights(int(master.Fd()))
		defer master.Close()
	}
	if err := dropPrivileges(spec.Process); err != nil {
		return err
	}
	if err := filterSystemCalls(spec.Linux.Seccomp); err != nil {
		return err
	}
	if err := becomeUser(spec.Process); err != nil {
		return err
	}
	if err := closeInherited(); err != nil {
		return err
	}
	if err := unix.Sendmsg(int(socket.Fd()), []byte{ready}, rights, nil, 0); err != nil {
		return fmt.Errorf("sendmsg: %w", err)
	}
	wait := make([]byte, 1)
	if _, err := socket.Read(wait); err != nil {
		return fmt.Errorf("wait for the start: %w", err)
	}
	return execute(spec.Process)
}

// closeInherited closes, at the next execve(2), the files that whoever started gocker left open: nothing of the host
// is to be found open in a container. Go's own files all are close-on-exec.
func closeInherited() error {
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("close inherited files (this needs Linux %s): %w", leastKernel, err)
	}
	return nil
}

// loopbackUp does what "ip link set lo up" does: a new network namespace has only lo, and it is down.
// See netdevice(7).
func loopbackUp() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, lo)
}

// becomeUser changes to the user and the working folder of the command. Groups go first: a user who is not root may
// not change them any more.
func becomeUser(process *specs.Process) error {
	groups := []int{}
	for _, gid := range process.User.AdditionalGids {
		groups = append(groups, int(gid))
	}
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("set groups %v: %w", groups, err)
	}
	if err := syscall.Setgid(int(process.User.GID)); err != nil {
		return fmt.Errorf("set group %d: %w", process.User.GID, err)
	}
	if err := syscall.Setuid(int(process.User.UID)); err != nil {
		return fmt.Errorf("set user %d: %w", process.User.UID, err)
	}
	// A change of user forgets this; see prctl(2).
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("prctl PR_SET_PDEATHSIG: %w", err)
	}
	if err := os.Chdir(process.Cwd); err != nil {
		return fmt.Errorf("change to the working folder: %w", err)
	}
	return nil
}

// execute replaces this program by the command. PID 1 stays PID 1.
func execute(process *specs.Process) error {
	path, err := lookPath(process.Args[0], process.Env)
	if err != nil {
		return err
	}
	err = unix.Exec(path, process.Args, process.Env)
	if errors.Is(err, unix.ENOENT) {
		return missingInterpreter(path)
	}
	return fmt.Errorf("%w: %q: %w", ErrNotExecutable, path, err)
}

// missingInterpreter is the error of a command that lookPath saw and execve(2) did not find: it names another program
// to run it, by "#!" or in its ELF header, and that one is missing.
func missingInterpreter(path string) error {
	return fmt.Errorf("%w: %q: the interpreter that it needs is not in the image", ErrNotFound, path)
}

// lookPath finds a command as execvp(3) does, with the container's PATH.
func lookPath(command string, env []string) (string, error) {
	if command == "" {
		return "", fmt.Errorf("%w: %q", ErrNotFound, command)
	}
	if strings.Contains(command, "/") {
		return command, executable(command)
	}
	path := ""
	for _, variable := range env {
		if value, ok := strings.CutPrefix(variable, "PATH="); ok {
			path = value
		}
	}
	result := fmt.Errorf("%w: %q in PATH %q", ErrNotFound, command, path)
	for _, dir := range filepath.SplitList(path) {
		at := filepath.Join(dir, command)
		err := executable(at)
		if err == nil {
			return at, nil
		}
		if errors.Is(err, ErrNotExecutable) {
			result = err
		}
	}
	return "", result
}

func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR):
		return fmt.Errorf("%w: %q", ErrNotFound, path)
	case err != nil:
		return fmt.Errorf("%w: %w", ErrNotExecutable, err)
	case info.IsDir():
		return fmt.Errorf("%w: %q is a directory", ErrNotExecutable, path)
	}
	if err := unix.Access(path, unix.X_OK); err != nil {
		return fmt.Errorf("%w: %q: %w", ErrNotExecutable, path, err)
	}
	return nil
}
