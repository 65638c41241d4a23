//go:build linux

package namespaces

import (
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step04-overlay/story"
)

// Enter runs spec.Process in the container whose first process is pid, and returns its status. stdin and stdout are for
// its terminal, if it has one. See Join.
func Enter(pid int, spec *specs.Spec, stdio Stdio, stdin *os.File, stdout io.Writer, parts ...Part) (status int, err error) {
	p, err := Join(pid, spec, stdio, parts...)
	if err != nil {
		return -1, err
	}
	return p.Follow(stdin, stdin, stdout)
}

// Join starts spec.Process in the container whose first process is pid. A thread of this program joins the container's
// namespaces, setns(2), and starts the process from there: so it is found, opened and born inside, and no code of ours
// runs inside beside it. Errors are ErrNotFound and
// ErrNotExecutable, as with Start.
func Join(pid int, spec *specs.Spec, stdio Stdio, parts ...Part) (*Process, error) {
	p, err := onItsThread(spec.Process, parts, func(p *Process) error { return p.enter(pid, spec, stdio) })
	if err == nil {
		err = p.Start()
	}
	return p, err
}

// enter takes the calling thread into a container, and makes one more process there.
func (p *Process) enter(pid int, spec *specs.Spec, stdio Stdio) error {
	// Its filter does not ask: what it starts may outlive us.
	if err := p.prepare(spec, stdio, false); err != nil {
		return err
	}
	if err := p.each(func(part Part) error { return part.Outside() }); err != nil {
		return err
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("open the container's first process %d: %w", pid, err)
	}
	container := os.NewFile(uintptr(pidfd), "container")
	defer container.Close()
	// A thread shares its root and working folder with the others, and the kernel lets none change that for all.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	// Not the cgroup namespace: who is in there cannot have a child born in a cgroup that is outside of it.
	const most = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET
	if err := unix.Setns(pidfd, most); err != nil {
		return fmt.Errorf("join the namespaces of process %d (this needs Linux 5.8): %w", pid, err)
	}
	p.tell.Run(story.Enter, "one thread goes into the container's namespaces; its children are in the pid namespace too",
		"nsenter", fmt.Sprint("--target=", pid), "--mount", "--uts", "--ipc", "--net", "--pid")
	unix.Umask(0o022)
	if spec.Process.Terminal {
		slave, err := p.takeTerminal(spec.Process)
		if err != nil {
			return fmt.Errorf("open a terminal: %w", err)
		}
		defer slave.Close()
	}
	if err := dropPrivileges(spec.Process, p.tell); err != nil {
		return err
	}
	if err := p.each(func(part Part) error { return part.Inside() }); err != nil {
		return err
	}
	p.list.Hide()
	if err := p.each(func(part Part) error { return part.First(p.list) }); err != nil {
		return err
	}
	p.list.Add("join the cgroup namespace", unix.SYS_SETNS, pidfd, unix.CLONE_NEWCGROUP)
	p.later.Run(story.Become, "the container's cgroup is the root that it sees", "nsenter", fmt.Sprint("--target=", pid), "--cgroup")
	p.later.Run(story.Join, "the folder that it begins in", "cd", spec.Process.Cwd)
	p.list.Wait()
	if err := p.addCommand(spec.Process); err != nil {
		return err
	}
	if err := p.clone(0, spec.Process); err != nil {
		return err
	}
	p.retell(p.told)
	return p.each(func(part Part) error { return part.Ready(p) })
}
