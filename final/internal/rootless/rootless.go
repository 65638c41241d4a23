//go:build linux

// Package rootless takes gocker, started by an ordinary user, into the user's own user and mount namespaces. There gocker is root
// over what is the user's, and all the rest is the code that root uses.
//
// All commands of a user share one pair of namespaces: what one mounts, another must find. So there is a process that does nothing
// but hold them, as long as anybody is in there:
//
//	{run}/namespaces          a file that each process in there has locked, shared, and inherits to those that it starts
//	the holder                waits until it can lock the file alone, lingers, waits for that once more, and then ends,
//	                          and the namespaces end with it
//	{run}/holder              is locked as long as the holder is there
//
// So a process that has the lock goes in if it finds a holder, and makes one if it finds none. If the holder is killed, the next
// command starts another one in the namespaces of a process that is left. If all are killed, nothing stays: the mounts were in the
// mount namespace.
//
// If there is a holder, gocker goes in by package enter, before it comes to this one.
package rootless

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"gocker/final/internal/enter"
	"gocker/final/internal/tiny"
	"gocker/final/internal/whynot"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/usernamespace"
)

// Enter does nothing for root. For others it executes gocker once more, in their namespaces, and returns only an error. "doctor" goes
// on without: it says what keeps the user out.
func Enter(args []string) error {
	tried := enter.Tried()
	if tried == enter.ByFile {
		return errNotThere()
	}
	if os.Geteuid() == 0 || !enter.IsWanted(args) {
		return nil
	}
	err := begin(args, tried != "")
	if args[0] == "doctor" {
		barred = err
		return nil
	}
	return err
}

var barred error

// Barred is what has kept Enter from going in, for "doctor".
func Barred() error { return barred }

// begin joins the namespaces. again says that this failed a moment ago.
func begin(args []string, again bool) error {
	if err := whynot.CanOpen(); err != nil {
		return err
	}
	enterScope(args)
	d := dirs.Default()
	lock, err := openLock(d)
	if err != nil {
		return err
	}
	pidfd, alone, err := holder(lock)
	if err != nil {
		return err
	}
	if again { // somebody may have killed the holder at the wrong moment
		if err := tryJoin(pidfd); err != nil {
			return err
		}
	}
	return enter.Join(d.Root, d.Run, pidfd, alone)
}

// entered tells whether this process is in the namespaces: a user who is not root has started it.
func entered() bool { return os.Geteuid() == 0 }

// Hold has programs that this one starts hold the namespaces, too: the file must stay open in them.
func Hold() {
	if usernamespace.Inside() {
		unix.FcntlInt(enter.Highest, unix.F_SETFD, 0) // without the file it is somebody else's namespace
	}
}

func aliveName(run string) string { return filepath.Join(run, "holder") }

// openLock opens the file and locks it, shared, for this process and for those that it starts.
func openLock(d dirs.Dirs) (*os.File, error) {
	if err := os.MkdirAll(d.Run, 0o700); err != nil {
		return nil, advice.Add(err, "choose another folder with --run or GOCKER_RUN")
	}
	f, err := os.OpenFile(enter.LockName(d.Run), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := enter.Lock(int(f.Fd())); errors.Is(err, unix.EMFILE) {
		return nil, whynot.MoreFiles(fmt.Errorf("open %s: %w", f.Name(), err))
	} else if err != nil {
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return os.NewFile(enter.Highest, f.Name()), nil
}

// holder finds the process that holds the namespaces, or starts it. alone says that they have one user.
func holder(lock *os.File) (pidfd int, alone bool, err error) {
	mutex, err := dirs.LockExisting(filepath.Dir(lock.Name()))
	if err != nil {
		return -1, false, err
	}
	defer mutex.Close()
	line := enter.Line()
	if pid, fd, err := enter.Process(line); err == nil {
		return fd, enter.IsAlone(pid), nil
	}
	var left *os.File
	if line != "" && !entered() { // else it has ended by itself, as nobody was in there
		if left, err = survivor(lock); err != nil {
			return -1, false, err
		}
		defer left.Close()
	}
	return startHolder(lock, left)
}

// linger is how long the holder stays when nobody is in there for the first time: 5 seconds. Mostly the user's next command comes
// soon, and to make namespaces takes as long as a third of a container.
var linger = binary.NativeEndian.AppendUint64([]byte{5, 0, 0, 0, 0, 0, 0, 0}, 0) // struct timespec

// hold is what the holder does.
var hold = []tiny.Call{
	{Number: unix.SYS_PRCTL, Args: []any{unix.PR_SET_NAME, "gocker-holder"}}, // else ps(1) names it after its file, a number
	// What this one has locked, shared, and what files its caller has left open.
	{Number: unix.SYS_CLOSE_RANGE, Args: []any{3, uintptr(^uint32(0)), 0}},
	{Number: unix.SYS_FLOCK, Args: []any{0, unix.LOCK_EX}},
	{Number: unix.SYS_FLOCK, Args: []any{0, unix.LOCK_UN}},
	{Number: unix.SYS_NANOSLEEP, Args: []any{string(linger), 0}},
	{Number: unix.SYS_FLOCK, Args: []any{0, unix.LOCK_EX}},
	{Number: unix.SYS_FTRUNCATE, Args: []any{0, 0}}, // nobody is to look for this one any more
	{Number: unix.SYS_EXIT_GROUP, Args: []any{0}},
}

// startHolder starts the process that holds the namespaces until nobody is in there. Its file 0 is the lock's, opened anew: a lock belongs
// to what was opened once. If somebody has killed the one before, it goes to the process that is left in there, or stays where this process is.
func startHolder(lock, left *os.File) (pidfd int, alone bool, err error) {
	var m usernamespace.Map
	if !entered() {
		if m, err = usernamespace.UserMap(); err != nil {
			return -1, false, err
		}
	}
	again, err := os.OpenFile(lock.Name(), os.O_RDWR, 0)
	if err != nil {
		return -1, false, err
	}
	defer again.Close()
	alive, err := openAlive(aliveName(filepath.Dir(lock.Name())))
	if err != nil {
		return -1, false, err
	}
	defer alive.Close()
	calls := slices.Clone(hold)
	start := func(cmd *exec.Cmd) error { return usernamespace.Start(cmd, m) }
	switch {
	case entered():
		start = func(cmd *exec.Cmd) error {
			err := cmd.Start()
			go cmd.Wait()
			return err
		}
	case left != nil:
		calls = slices.Insert(calls, 0, tiny.Call{Number: unix.SYS_SETNS, Args: []any{3, unix.CLONE_NEWUSER | unix.CLONE_NEWNS}})
		start = func(cmd *exec.Cmd) error {
			cmd.ExtraFiles = []*os.File{left}
			return cmd.Start()
		}
	}
	program, err := enter.NewProgram("gocker-holder", calls)
	if err != nil {
		return -1, false, err
	}
	defer program.Close()
	cmd := &exec.Cmd{
		Path: fmt.Sprint("/proc/self/fd/", program.Fd()), Args: []string{"gocker-holder"}, Env: []string{}, Dir: "/", Stdin: again, Stdout: alive,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := start(cmd); err != nil {
		return -1, false, fmt.Errorf("start the process that holds the user's namespaces: %w", err)
	}
	if why := m.Why(); why != "" {
		fmt.Fprintf(os.Stderr, "gocker: images with files of several users cannot be here: %s; see docs/user-namespaces.md\n", why)
	}
	if pidfd, err = unix.PidfdOpen(cmd.Process.Pid, 0); err != nil {
		return -1, false, fmt.Errorf("open the process that holds the namespaces: %w", err)
	}
	if err := errors.Join(lock.Truncate(0), writeAt(lock, enter.LineOf(cmd.Process.Pid))); err != nil {
		cmd.Process.Kill()
		return -1, false, err
	}
	return pidfd, m.Why() != "", nil
}

// openAlive opens a file that is locked as long as somebody has it open.
func openAlive(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil { // waits for who saw the end of the one before: see guard
		return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
	}
	return f, nil
}

func writeAt(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}
