//go:build linux

// Package namespaces starts a process that sees only itself.
//
// A namespace is a private copy of one of the kernel's tables: mounts, pids, host name, network devices, … A process
// in it sees the copy, and cannot name what the others have. The way in is unshare(2), with a CLONE_NEW… flag for each:
//
//	a thread of this program                 child, PID 1 of the new pid namespace
//	Create: unshare: new namespaces
//	        host name, loopback, mounts,
//	        pivot_root
//	        clone                  ────────▶ mount /proc
//	                               ◀──────── it is ready, and waits
//	Start:  go                     ────────▶ execve: the child becomes the command
//	Wait:   its exit status
//
// Namespaces belong to threads, not to whole processes: a thread that unshares goes into new ones alone, and has a root
// folder of its own there. So one thread sets up the container from inside. The pid namespace is different: a thread
// stays in its own, only its children are in the new one. So the child does the work that must be done in there, between
// clone and execve: see package birth.
//
// In the order in which it happens: Create in this file is the whole way, package rootfs makes the root folder, process.go
// starts and ends the command. Everything else that a container has (a cgroup, a filter of system calls, volumes) comes
// as a Part: see part.go. join.go starts one more process in a container.
//
// The description of the container is the OCI runtime specification's. A field that no Part reads has no effect.
//
// See namespaces(7), pivot_root(2), and https://github.com/opencontainers/runtime-spec/blob/main/config.md.
package namespaces

import (
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step04-overlay/check"
	"gocker/step05-namespaces/inside"
	"gocker/step05-namespaces/nscheck"
	"gocker/step05-namespaces/rootfs"
)

// ErrShared says that a spec would change what a container does not have for itself.
var ErrShared = errors.New("it would change more than this container")

// Flags are those of unshare(2) for the specification's types of namespaces.
var Flags = map[specs.LinuxNamespaceType]int{
	specs.PIDNamespace:     unix.CLONE_NEWPID,
	specs.MountNamespace:   unix.CLONE_NEWNS,
	specs.UTSNamespace:     unix.CLONE_NEWUTS,
	specs.IPCNamespace:     unix.CLONE_NEWIPC,
	specs.NetworkNamespace: unix.CLONE_NEWNET,
	specs.CgroupNamespace:  unix.CLONE_NEWCGROUP,
}

// Spec describes a container with its own root file system, namespaces, /proc, /dev and /sys, and the host name id,
// that runs args. See config.md and config-linux.md, "Default Filesystems".
func Spec(rootfs, id string, args []string) *specs.Spec {
	return &specs.Spec{
		Version:  specs.Version,
		Root:     &specs.Root{Path: rootfs},
		Hostname: id,
		Process: &specs.Process{
			Args: args,
			Env:  []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Cwd:  "/",
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		},
		Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{
			{Type: specs.PIDNamespace}, {Type: specs.MountNamespace}, {Type: specs.UTSNamespace},
			{Type: specs.IPCNamespace}, {Type: specs.NetworkNamespace}, {Type: specs.CgroupNamespace},
		}},
	}
}

// Create makes the namespaces and the root file system, and stops just before the command. If Create fails, nothing is
// left. The process dies when this one does. Streams and parts are for this container only.
func Create(spec *specs.Spec, streams Streams, parts ...Part) (*Process, error) {
	return onItsThread(streams, parts, func(p *Process) error { return p.create(spec) })
}

// create sets up a container around the calling thread, and makes its first process.
func (p *Process) create(spec *specs.Spec) error {
	made, err := newNamespaces(spec)
	if err != nil {
		return err
	}
	if err := p.each(func(part Part) error { return part.Outside() }); err != nil {
		return err
	}
	left, err := p.unshare(made)
	if err != nil {
		return err
	}
	if err := p.each(func(part Part) error { return part.Unshared() }); err != nil {
		return err
	}
	if err := fill(made, spec.Hostname); err != nil {
		return err
	}
	unix.Umask(0o022) // what is made here has the mode that is asked for, and the command begins with docker's umask
	root, err := rootfs.Enter(spec.Root.Path, left&unix.CLONE_NEWNS == 0)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, m := range spec.Mounts {
		if err := p.mount(root, m); err != nil {
			return err
		}
	}
	if err := p.each(func(part Part) error { return part.Inside() }); err != nil {
		return err
	}
	if err := p.prepare(made, root, spec.Process); err != nil {
		return err
	}
	err = root.ChildMounts(func() error {
		if err := p.clone(left & unix.CLONE_NEWPID); err != nil {
			return err
		}
		return p.awaitReport()
	})
	if err != nil {
		return err
	}
	if err := inside.MakeFolder(spec.Process.Cwd); err != nil {
		return fmt.Errorf("make the working folder: %w", err)
	}
	return p.each(func(part Part) error { return part.Ready(p) })
}

// fill gives new namespaces what they lack: a name of the host, and a loopback interface that is up.
func fill(made int, hostname string) error {
	if hostname != "" {
		if err := unix.Sethostname([]byte(hostname)); err != nil {
			return fmt.Errorf("set host name %q: %w", hostname, err)
		}
	}
	if made&unix.CLONE_NEWNET != 0 {
		if err := loopbackUp(); err != nil {
			return fmt.Errorf("bring up the loopback interface: %w", err)
		}
	}
	return nil
}

// prepare lists the child's calls. The calls after Wait are made when Start lets it go on.
func (p *Process) prepare(made int, root *rootfs.Root, process *specs.Process) error {
	l := p.list
	l.Hide()
	if err := p.each(func(part Part) error { return part.First(l) }); err != nil {
		return err
	}
	l.DieWithParent() // a container without the program that made it would be nobody's
	if made&unix.CLONE_NEWCGROUP != 0 {
		l.Add("unshare the cgroup namespace", unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP)
	}
	root.AddTo(l)
	l.Report()
	l.Wait()
	return p.addCommand(process)
}

// newNamespaces are the flags of the namespaces that a spec wants anew. All others are the host's.
func newNamespaces(spec *specs.Spec) (flags int, err error) {
	hasNames := spec.Hostname == ""
	for _, ns := range spec.Linux.Namespaces {
		flag, ok := Flags[ns.Type]
		if !ok {
			return 0, fmt.Errorf("namespace %q: not supported", ns.Type)
		}
		if ns.Path == "" {
			flags |= flag
		}
		hasNames = hasNames || flag == unix.CLONE_NEWUTS
	}
	if flags&unix.CLONE_NEWNS == 0 {
		return 0, fmt.Errorf("no mount namespace: %w", ErrShared)
	}
	if !hasNames {
		return 0, fmt.Errorf("set the host name %q without a uts namespace: %w", spec.Hostname, ErrShared)
	}
	return flags, nil
}

// unshare takes the calling thread into new namespaces, first into those that parts make. It returns the flags of the others.
func (p *Process) unshare(flags int) (left int, err error) {
	left = flags
	for _, part := range p.parts {
		if left, err = part.Unshare(left); err != nil {
			return left, err
		}
	}
	return left, unshare(left)
}

// unshare takes the calling thread into new namespaces, but for two. A pid namespace is for the child. And the cgroup
// namespace the child takes itself: the cgroup that a process is in at that moment is the root that it sees. CLONE_FS is
// no namespace: with it the thread has a root and a working folder that are not those of the program's other threads.
func unshare(flags int) error {
	if err := unix.Unshare(unix.CLONE_FS | flags&^(unix.CLONE_NEWPID|unix.CLONE_NEWCGROUP)); err != nil {
		return check.Explain(fmt.Errorf("unshare: %w", err), nscheck.Results())
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

// mount mounts an entry of the spec, unless a part deals with it. A proc file system shows the pid namespace of the process
// that mounts it, so that is the child.
func (p *Process) mount(root *rootfs.Root, m specs.Mount) error {
	for _, part := range p.parts {
		if done, err := part.Mount(root, m); done || err != nil {
			return err
		}
	}
	if m.Type == "proc" {
		return root.LeaveToChild(m)
	}
	return root.Mount(m)
}

// addCommand ends the list: the child gives up what it has of ours, and becomes the command.
func (p *Process) addCommand(process *specs.Process) error {
	l := p.list
	// A session of its own: the host's terminal is not the container's, so no Ctrl-C from there, and no TIOCSTI to there.
	l.Add("setsid", unix.SYS_SETSID)
	if err := p.streams.Connect(l); err != nil {
		return err
	}
	l.CloseAll()
	l.DefaultSignals()
	l.DefaultLimit()
	if err := p.each(func(part Part) error { return part.Last(l) }); err != nil {
		return err
	}
	l.ChangeFolder(process.Cwd)
	p.command = process.Args[0]
	for _, part := range p.parts {
		if done, err := part.Command(l); done || err != nil {
			p.byPart = done
			return err
		}
	}
	return l.Exec(process.Args, process.Env)
}

// clone makes the child.
func (p *Process) clone(flags int) (err error) {
	if p.Pid, p.Pidfd, err = p.list.Clone(flags); err != nil {
		return check.Explain(fmt.Errorf("clone a process: %w", err), nscheck.Results())
	}
	return nil
}

// awaitReport waits until the child is as far as it can be without its parent.
func (p *Process) awaitReport() error {
	err := p.list.Read()
	if !errors.Is(err, io.EOF) {
		return err
	}
	return p.endedEarly()
}

func (p *Process) endedEarly() error {
	p.reap()
	p.Pidfd = nil // it is not to be reaped again
	err := fmt.Errorf("set up the process: it ended early, with status %d", statusOf(p.status))
	if p.status.Signal() == unix.SIGKILL {
		err = advice.Add(err, "a memory limit may be too small for it, or somebody killed it")
	}
	return err
}
