//go:build linux

package namespaces

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step05-namespaces/lsns"
)

// Join starts process in the container whose first process is pid. A thread of this program joins the container's
// namespaces, setns(2), and starts the process from there: so it is found, opened and born inside, and no code of ours
// runs inside beside it. Errors are ErrNotFound and ErrNotExecutable, as with Start. The process does not die with this
// one. At the parts' first moment pid is held, and cannot become another process's: they may look whether it is the container's.
func Join(pid int, process *specs.Process, streams Streams, parts ...Part) (*Process, error) {
	p, err := onItsThread(streams, parts, func(p *Process) error { return p.join(pid, process) })
	if err != nil {
		return nil, err
	}
	return p, p.Start()
}

// join takes the calling thread into a container, and makes one more process there.
func (p *Process) join(pid int, process *specs.Process) error {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("open the container's first process %d: %w", pid, err)
	}
	defer unix.Close(pidfd)
	hasOwnCgroups := !lsns.Shared(pid, "cgroup") // asked now: later /proc is the container's
	if err := p.each(func(part Part) error { return part.Outside() }); err != nil {
		return err
	}
	// A thread shares its root and working folder with the others, and the kernel lets none change that for all.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	// Not the cgroup namespace: a thread that is in there cannot have a child born in a cgroup that is outside of it.
	const most = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET
	if err := unix.Setns(pidfd, most); err != nil {
		return fmt.Errorf("join the namespaces of process %d (this needs Linux 5.8): %w", pid, err)
	}
	unix.Umask(0o022)
	if err := p.each(func(part Part) error { return part.Inside() }); err != nil {
		return err
	}
	p.list.Hide()
	if err := p.each(func(part Part) error { return part.First(p.list) }); err != nil {
		return err
	}
	if hasOwnCgroups { // else it is the machine's, which only the machine's root may join
		p.list.Add("join the cgroup namespace", unix.SYS_SETNS, pidfd, unix.CLONE_NEWCGROUP)
	}
	p.list.Wait()
	if err := p.addCommand(process); err != nil {
		return err
	}
	// At the very end: a user who is not the machine's root cannot go back. A part that has ended the list has the child do that.
	if !p.byPart {
		if err := unix.Setns(pidfd, unix.CLONE_NEWPID); err != nil {
			return fmt.Errorf("join the pid namespace of process %d: %w", pid, err)
		}
	}
	if err := p.clone(0); err != nil {
		return err
	}
	return p.each(func(part Part) error { return part.Ready(p) })
}
