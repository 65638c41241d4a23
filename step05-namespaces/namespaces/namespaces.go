//go:build linux

// Package namespaces starts a process that sees only itself.
//
// A namespace is a private copy of one of the kernel's tables: mounts, pids, host name, network devices, … A process
// in it sees the copy, and cannot name what the others have. The way in is clone(2) with a CLONE_NEW… flag each:
//
//	a thread of this program                 child, PID 1 of the new pid namespace
//	Create: unshare: new namespaces
//	        host name, loopback, mounts,
//	        pivot_root, terminal
//	        clone                  ────────▶ into its cgroup, mount /proc
//	        cover parts of /proc   ◀──────── done
//	Start:  go                     ────────▶ take the user's id, execve: the child becomes the command
//	Wait:   its exit status
//
// Namespaces belong to threads, not to whole processes: a thread that unshares goes into new ones alone, and has a root
// folder of its own there. So one thread sets up the container from inside. The pid namespace is different: a thread
// stays in its own, only its children are in the new one. What has to be done in there the child does, between clone
// and execve: see birth.
//
// In the order in which it happens: Create in namespaces.go is the whole way, join.go goes into the namespaces, rootfs.go
// makes the root folder, with mount.go, names.go and devices.go, birth.go and command.go make the child, stdio.go, with copy.go,
// and terminal.go connect it. Of those others that is enough: restrict.go and seccomp.go take from the command what the
// runtime does not trust it with, enter.go is for one more command, tell.go has the story, and executable.go, fault.go
// and denied.go find out why a command did not start.
//
// The description of the container is the OCI runtime specification's. What this package does not do yet, it refuses.
//
// See namespaces(7), pivot_root(2), and https://github.com/opencontainers/runtime-spec/blob/main/config.md.
package namespaces

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step04-overlay/check"
	"gocker/step04-overlay/story"
	"gocker/step05-namespaces/birth"
)

// Why a command did not start. The exit statuses that shells, docker and podman use for them are 127 and 126.
var (
	ErrNotFound      = errors.New("command not found")
	ErrNotExecutable = errors.New("command cannot be executed")
)

// cloneFlags is the flag for each namespace of the specification.
var cloneFlags = map[specs.LinuxNamespaceType]int{
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

// A Process is a process in a container: its first one, PID 1 in there, or one more.
type Process struct {
	Pid      int      // as the host counts
	Terminal *os.File // the master side of its terminal, if the spec wants one; the caller closes it
	Input    *os.File // of Stdio.Typed: what is written here it reads; the caller closes it

	tell    story.Story
	later   story.Story // keeps in told what there is to tell of the child's calls, until they are made
	told    []story.Line
	list    *birth.List
	bound   bool // the child dies with us
	streams *streams
	parts   []Part
	filter  func() (filter, error) // it is being made ready on another thread; who calls it waits until it is
	denied  denials
	pidfd   *os.File      // the process itself: its number may be another's one day
	started chan error    // what became of Start
	ended   chan struct{} // closed when it has ended, with this status:
	status  unix.WaitStatus
	script  string // see Script
}

// Create makes the namespaces and the root file system, and stops just before the command. If Create fails, nothing is
// left. The process dies when this one does. The parts are for this container only.
func Create(spec *specs.Spec, stdio Stdio, parts ...Part) (*Process, error) {
	return onItsThread(spec.Process, parts, func(p *Process) error { return p.create(spec, stdio) })
}

// onItsThread has a thread set up a process and wait for its end, and then the thread ends too. It is in the container,
// where no other goroutine should find itself; and with it dies the process that it made: see PR_SET_PDEATHSIG in
// prctl(2).
func onItsThread(process *specs.Process, parts []Part, setUp func(p *Process) error) (*Process, error) {
	p := &Process{started: make(chan error, 1), ended: make(chan struct{})}
	for _, part := range parts {
		p.parts = append(p.parts, part.filled())
		if part.tell != nil {
			p.tell = part.tell
		}
	}
	created := make(chan error)
	go check.OnThread(func() error {
		err := setUp(p)
		for _, part := range p.parts {
			part.Done()
		}
		if err != nil {
			p.discard()
		}
		created <- err
		if err == nil {
			p.started <- p.hasBecome(process)
			p.reap()
			p.streams.end()
			for _, part := range p.parts {
				part.Ended(p)
			}
			if status := p.status.ExitStatus(); status == 126 || status == 127 {
				p.script = firstLine(process)
			}
			close(p.ended)
		}
		return nil
	})
	if err := <-created; err != nil {
		return nil, err
	}
	return p, nil
}

// create sets up a container around the calling thread, and makes its first process.
func (p *Process) create(spec *specs.Spec, stdio Stdio) error {
	if err := refuse(spec); err != nil {
		return err
	}
	own, err := namespacesOf(spec)
	defer own.close()
	if err != nil {
		return err
	}
	if err := checkSysctls(spec.Linux.Sysctl, own); err != nil {
		return err
	}
	if err := p.prepare(spec, stdio, true); err != nil {
		return err
	}
	if err := p.each(func(part Part) error { return part.Outside() }); err != nil {
		return err
	}
	if err := own.enter(); err != nil {
		return check.Explain(fmt.Errorf("unshare: %w", err), Checks())
	}
	p.tellNamespaces(own)
	p.tellRoot(spec.Root.Path)
	if err := setNames(spec); err != nil {
		return err
	}
	if spec.Hostname != "" {
		p.tell.Write(story.Inside, "a host name of its own", "/proc/sys/kernel/hostname", spec.Hostname)
	}
	if spec.Domainname != "" {
		p.tell.Write(story.Inside, "and a domain name", "/proc/sys/kernel/domainname", spec.Domainname)
	}
	if own.made&unix.CLONE_NEWNET != 0 {
		if err := loopbackUp(); err != nil {
			return fmt.Errorf("bring up the loopback interface: %w", err)
		}
		p.tell.Run(story.Inside, "a new network namespace has only lo, and it is down", "ip", "link", "set", "lo", "up")
	}
	root := rootfs{tell: p.tell, parts: p.parts}
	defer root.close()
	if err := root.enter(spec); err != nil {
		return err
	}
	if spec.Process.Terminal {
		slave, err := p.takeTerminal(spec.Process)
		if err == nil {
			defer slave.Close()
			err = bindConsole(slave)
		}
		if err != nil {
			return fmt.Errorf("open a terminal: %w", err)
		}
		p.tell.Sh(story.Inside, "a terminal of its own, as its controlling terminal and as /dev/console",
			"# a shell has no command for that: it goes on with the terminal that it has")
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
	p.bound = true
	p.list.DieWithParent() // a container without its gocker would be nobody's
	p.addCgroupNamespace(own)
	p.addMounts(root.child, own.made&unix.CLONE_NEWCGROUP != 0)
	p.list.Report()
	untilReport := len(p.told)
	p.list.Wait()
	if err := p.addCommand(spec.Process); err != nil {
		return err
	}
	if err := p.clone(own.made&unix.CLONE_NEWPID, spec.Process); err != nil {
		return err
	}
	if err := p.isReady(); err != nil {
		return err
	}
	p.retell(p.told[:untilReport])
	if err := root.finish(spec); err != nil {
		return err
	}
	p.retell(p.told[untilReport:])
	return p.each(func(part Part) error { return part.Ready(p) })
}

// prepare begins what can be done beside all else, and what cannot be done any more from inside. The filter asks if ask is
// true: see askInstead.
func (p *Process) prepare(spec *specs.Spec, stdio Stdio, ask bool) (err error) {
	p.filter = check.Elsewhere(func() (filter, error) { return compileFilter(spec.Linux.Seccomp, ask) })
	if p.tell != nil {
		p.later = func(line story.Line) { p.told = append(p.told, line) }
	}
	if p.list, err = birth.NewList(); err != nil || spec.Process.Terminal {
		return err
	}
	p.streams = &streams{}
	err = p.streams.open(stdio, spec.Process.User)
	p.Input = p.streams.typed
	return err
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

// clone makes the process.
func (p *Process) clone(flags int, process *specs.Process) (err error) {
	if p.Pid, p.pidfd, err = p.list.Clone(flags); err != nil {
		return check.Explain(fmt.Errorf("clone a process: %w", err), Checks())
	}
	if flags&unix.CLONE_NEWPID != 0 {
		p.tell.Run(story.Enter, "a child in a new pid namespace; it dies when its parent does", "unshare", "--pid", "--fork", "--kill-child")
	}
	p.streams.closeTheirs()
	if score := process.OOMScoreAdj; score != nil {
		_, err = check.Elsewhere(func() (any, error) { return nil, setOOMScore(p.Pid, *score) })()
		p.tell.Write(story.Join, "how soon the kernel kills it where memory runs out", "/proc/self/oom_score_adj", *score)
	}
	return err
}

// isReady waits until the child is as far as it can be without its parent.
func (p *Process) isReady() error {
	err := p.list.Read()
	if !errors.Is(err, io.EOF) {
		return err
	}
	p.reap()
	close(p.ended)
	err = fmt.Errorf("set up the container: its first process ended early, with status %d", statusOf(p.status))
	if p.status.Signal() == syscall.SIGKILL {
		err = advice.Add(err, "a memory limit may be too small for it, or somebody killed it")
	}
	return err
}

// Start lets the child execute its command. ErrNotFound and ErrNotExecutable say that it could not; then the process
// is gone.
func (p *Process) Start() error {
	err := p.list.Proceed()
	if err == nil {
		err = <-p.started
	}
	if err != nil {
		p.Abort()
		return err
	}
	p.streams.flow()
	return nil
}

// hasBecome tells what became of the child when it was let go: nil if it executes its command, or was killed.
func (p *Process) hasBecome(process *specs.Process) error {
	err := p.list.Read()
	if sent := p.list.Sent(); err == nil && sent != nil { // it has handed over a listener, and goes on
		filter, _ := p.filter()
		go p.denied.listen(sent, filter.asks)
		err = p.list.Read()
	}
	err = adviseOn(err)
	p.list.Close()
	var failed birth.Failed
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case errors.As(err, &failed) && len(p.Denied()) > 0:
		if failed.Number == unix.SYS_EXECVE {
			err = fmt.Errorf("%w: %w", ErrNotExecutable, err)
		}
		return advice.Add(fmt.Errorf("%w: the seccomp filter denied %s", err, p.Denied()[0].Call), "no command begins without this call: let it through in the profile")
	case errors.As(err, &failed) && failed.Number == unix.SYS_EXECVE:
		return whyNotExecuted(process, failed.What, failed.Errno)
	}
	return err
}

// reap waits for the end of the process itself.
func (p *Process) reap() {
	for {
		// An error other than EINTR would say that it is no child of ours.
		if _, err := unix.Wait4(p.Pid, &p.status, 0, nil); err != unix.EINTR {
			break
		}
	}
	p.pidfd.Close()
}

// discard takes back what a setup has made that failed.
func (p *Process) discard() {
	if p.list != nil {
		p.list.Close()
	}
	if p.streams != nil {
		p.streams.discard()
	}
	if p.Terminal != nil {
		p.Terminal.Close()
	}
	if p.pidfd == nil {
		return
	}
	p.Kill()
	select {
	case <-p.ended:
	default:
		p.reap()
		close(p.ended)
	}
}

// Run starts the command, calls started, connects its terminal, if it has one, with stdin and stdout, and waits for
// its end.
func (p *Process) Run(stdin *os.File, stdout io.Writer, started func()) (status int, err error) {
	if err := p.Start(); err != nil {
		return -1, err
	}
	if started != nil {
		started()
	}
	return p.Follow(stdin, stdin, stdout)
}

// Follow is the rest of Run, for a process that has started. typed is as for Attach; after ErrLeft the process goes on.
func (p *Process) Follow(stdin *os.File, typed io.Reader, stdout io.Writer) (status int, err error) {
	if p.Terminal != nil {
		if err := Attach(p.Terminal, stdin, typed, stdout); err != nil {
			if !errors.Is(err, ErrLeft) {
				p.Abort()
			}
			return -1, err
		}
	}
	return p.Wait()
}

// Signal sends a signal to the process. One that has ended is no error.
func (p *Process) Signal(sig os.Signal) error {
	number, ok := sig.(syscall.Signal)
	if !ok {
		return fmt.Errorf("signal %v: not one of this system", sig)
	}
	conn, err := p.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := conn.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), number, nil, 0) }); err != nil {
		return nil // the file is closed: see reap
	}
	if sent != nil && sent != unix.ESRCH {
		return fmt.Errorf("signal process %d: %w", p.Pid, sent)
	}
	return nil
}

// Ended is closed when the process itself has ended. What it wrote may not be copied yet, and what it started may live.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Wait waits for the end of the process, until all that it wrote is copied. The status is its exit status, or 128 + the number of the
// signal that ended it. With PID 1 the kernel ends all processes of the pid namespace: see pid_namespaces(7).
func (p *Process) Wait() (status int, err error) {
	<-p.ended
	if err := p.streams.wait(); err != nil {
		return -1, err
	}
	return statusOf(p.status), nil
}

// EndedBy is the signal that ended the process, 0 if it ended by itself. It waits for the end.
func (p *Process) EndedBy() syscall.Signal {
	<-p.ended
	if p.status.Signaled() {
		return p.status.Signal()
	}
	return 0
}

// Script is the first line of its command, if that is a script which ended with the status for a command that was not
// found or not executed: after "#!/usr/bin/env bash\r" the kernel has found env. It waits for the end.
func (p *Process) Script() string {
	<-p.ended
	return p.script
}

func statusOf(ws unix.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// Kill ends the process, and with PID 1 all processes of its pid namespace.
func (p *Process) Kill() { p.Signal(unix.SIGKILL) } // an error would say that it is not ours

// Abort kills a process that is not wanted any more, and waits for its end.
func (p *Process) Abort() {
	p.Kill()
	p.Wait() // its status is of no interest, nor what it wrote
	p.streams.discard()
	if p.Terminal != nil {
		p.Terminal.Close()
	}
}
