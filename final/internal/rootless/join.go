//go:build linux

package rootless

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"

	"gocker/final/internal/tiny"
	"gocker/step01-pull/shared/advice"
)

// tryJoin has another process join the namespaces, which says what it meets.
func tryJoin(pidfd int) error {
	said, says, err := os.Pipe()
	if err != nil {
		return err
	}
	defer said.Close()
	defer says.Close()
	copied, err := unix.FcntlInt(uintptr(pidfd), unix.F_DUPFD_CLOEXEC, 0) // the caller keeps its own
	if err != nil {
		return err
	}
	holder := os.NewFile(uintptr(copied), "holder")
	defer holder.Close()
	program, err := tiny.NewFile("gocker-join")
	if err != nil {
		return err
	}
	defer program.Close()
	if _, err := program.Write(tiny.Child(3, 0, []tiny.Call{
		{Number: unix.SYS_SETNS, Args: []any{4, unix.CLONE_NEWUSER | unix.CLONE_NEWNS}},
		{Number: unix.SYS_EXIT_GROUP, Args: []any{0}},
	})); err != nil {
		return err
	}
	cmd := &exec.Cmd{Path: fmt.Sprint("/proc/self/fd/", program.Fd()), Args: []string{"gocker-join"}, ExtraFiles: []*os.File{says, holder}}
	if err = cmd.Run(); err == nil {
		return nil
	}
	says.Close()
	var report struct{ Call, Error, GaveUp, Pid uint32 }
	if binary.Read(said, binary.NativeEndian, &report) == nil {
		err = unix.Errno(report.Error)
	}
	return advice.Add(fmt.Errorf("join the namespaces of the process gocker-holder: setns: %w", err),
		"is gocker in a user namespace of its own, and the user's containers are outside? Start it outside, too; or choose other folders with --root and --run")
}

// errNotThere says that enter.Join has not found this program by its name.
func errNotThere() error {
	self, err := os.Readlink("/proc/self/exe")
	err = errors.Join(fmt.Errorf("execute %q once more, in the user's namespaces: it is not there", self), err)
	return advice.Add(err, "was it replaced, or mounted after the user's first container was started? Then end all containers, or start a gocker from another folder")
}
