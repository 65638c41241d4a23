//go:build linux

// Package namespaces starts a process that sees only itself.
//
// A namespace is a private copy of one of the kernel's tables: mounts, pids, host name, network devices, … A process
// in it sees the copy, and cannot name what the others have. The way in is clone(2) with a CLONE_NEW… flag each:
//
//	parent (this program)                    child (this program again, as PID 1 of the new pid namespace)
//	Create: clone, in its cgroup
//	        send the spec          ────────▶ host name, loopback, mounts, pivot_root, terminal
//	        wait                   ◀──────── ready
//	Start:  go                     ────────▶ execve the command: the child becomes it
//	Wait:   its exit status
//
// Go cannot fork without exec: a Go process is several threads, and fork(2) copies one. So the child is this very
// program, started anew with another name, and main must call Init before anything else.
//
// The description of the container is the OCI runtime specification's. What this package does not do yet, it refuses.
//
// See namespaces(7), pivot_root(2), and https://github.com/opencontainers/runtime-spec/blob/main/config.md.
package namespaces

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/advice"
	"gocker/step01-pull/check"
)

// Why a command did not start. The exit statuses that shells, docker and podman use for them are 127 and 126.
var (
	ErrNotFound      = errors.New("command not found")
	ErrNotExecutable = errors.New("command cannot be executed")
)

// cloneFlags is the flag for each namespace of the specification; the cgroup namespace is made later, by the child.
var cloneFlags = map[specs.LinuxNamespaceType]uintptr{
	specs.PIDNamespace:     unix.CLONE_NEWPID,
	specs.MountNamespace:   unix.CLONE_NEWNS,
	specs.UTSNamespace:     unix.CLONE_NEWUTS,
	specs.IPCNamespace:     unix.CLONE_NEWIPC,
	specs.NetworkNamespace: unix.CLONE_NEWNET,
	specs.CgroupNamespace:  0,
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

// Stdio is what the process reads and writes where it has no terminal. A nil Stdin is /dev/null.
type Stdio struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// A Process is the first process of a container: PID 1 in there.
type Process struct {
	Pid      int      // as the host counts
	Terminal *os.File // the master side of its terminal, if the spec wants one; the caller closes it

	cmd    *exec.Cmd
	socket *os.File // to the child; it closes by itself when the child executes its command
}

// A Place is the cgroup that a process is to be in.
type Place interface {
	// Open returns its folder, if a process can be born in it, else nil.
	Open() (*os.File, error)
	// Add moves a process there.
	Add(pid int) error
}

// Create makes the namespaces and the root file system, and stops just before the command. The process is in its place,
// if that is not nil, before it does anything. If Create fails, nothing is left. The process dies when the thread that
// called Create does.
func Create(spec *specs.Spec, stdio Stdio, place Place) (*Process, error) {
	flags, err := flagsOf(spec)
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "init"), os.NewFile(uintptr(pair[1]), "gocker")
	defer theirs.Close()

	cmd, err := startIn(place, func() *exec.Cmd {
		cmd := &exec.Cmd{
			Path:       "/proc/self/exe",
			Args:       []string{initName},
			Env:        []string{}, // what the host's environment says is nothing for the container
			ExtraFiles: []*os.File{theirs},
			SysProcAttr: &syscall.SysProcAttr{
				Cloneflags: flags,
				Setsid:     true,            // the host's terminal is not the container's: no Ctrl-C, no TIOCSTI
				Pdeathsig:  syscall.SIGKILL, // a container without its gocker would be nobody's
			},
		}
		if !spec.Process.Terminal {
			cmd.Stdin, cmd.Stdout, cmd.Stderr = stdio.Stdin, stdio.Stdout, stdio.Stderr
		}
		return cmd
	})
	if cmd.Process == nil {
		ours.Close()
		return nil, check.Explain(fmt.Errorf("clone a process into new namespaces: %w", err), Checks())
	}
	p := &Process{Pid: cmd.Process.Pid, cmd: cmd, socket: ours}
	if err == nil {
		err = json.NewEncoder(ours).Encode(spec)
	}
	var said byte
	if err == nil {
		said, p.Terminal, err = p.answer()
	}
	if err == nil && said == ended {
		p.cmd.Wait() // for its state
		err = fmt.Errorf("set up the container: its first process ended early: %v", p.cmd.ProcessState)
		if p.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
			err = advice.Add(err, "a memory limit may be too small for it, or somebody killed it")
		}
	}
	if err != nil {
		p.Abort()
		return nil, err
	}
	return p, nil
}

// startIn starts a process that is born in its cgroup: CLONE_INTO_CGROUP in clone3(2), for v2, since Linux 5.7. Where
// that is refused, by the kernel or by a seccomp filter, the process is born here and moved. On an error the command may
// have started or not.
func startIn(place Place, command func() *exec.Cmd) (*exec.Cmd, error) {
	if place != nil {
		// If it cannot be opened, Add says why.
		if folder, err := place.Open(); err == nil && folder != nil {
			defer folder.Close()
			cmd := command()
			cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(folder.Fd())
			if cmd.Start() == nil {
				return cmd, nil
			}
		}
	}
	cmd := command()
	err := cmd.Start()
	if err == nil && place != nil {
		err = place.Add(cmd.Process.Pid)
	}
	return cmd, err
}

func flagsOf(spec *specs.Spec) (flags uintptr, err error) {
	for _, ns := range spec.Linux.Namespaces {
		flag, ok := cloneFlags[ns.Type]
		if !ok || ns.Path != "" {
			return 0, fmt.Errorf("namespace %q (path %q): not supported", ns.Type, ns.Path)
		}
		flags |= flag
	}
	return flags, nil
}

// Start lets the child execute its command. ErrNotFound and ErrNotExecutable say that it could not; then the process
// is gone.
func (p *Process) Start() error {
	_, err := p.socket.Write([]byte{proceed})
	if err == nil || errors.Is(err, unix.EPIPE) {
		_, _, err = p.answer() // ended: it executes its command, or was killed; Wait tells which
	}
	if err != nil {
		p.Abort()
		return err
	}
	return p.socket.Close()
}

// answer reads what the child has to say: failed, which is returned as its error, ready, maybe with a terminal, or
// ended: its side is closed, by execve(2) or by its death.
func (p *Process) answer() (said byte, terminal *os.File, err error) {
	kind, rights := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := unix.Recvmsg(int(p.socket.Fd()), kind, rights, unix.MSG_CMSG_CLOEXEC)
	for err == unix.EINTR {
		n, oobn, _, _, err = unix.Recvmsg(int(p.socket.Fd()), kind, rights, unix.MSG_CMSG_CLOEXEC)
	}
	if n == 0 && err == nil || err == unix.ECONNRESET { // reset: it died before it read our last word
		return ended, nil, nil
	}
	if err != nil {
		return ended, nil, fmt.Errorf("recvmsg: %w", err)
	}
	if kind[0] == failed {
		var f Failure
		if err := json.NewDecoder(p.socket).Decode(&f); err != nil {
			return failed, nil, fmt.Errorf("read the error of the container's first process: %w", err)
		}
		return failed, nil, f.Err()
	}
	if oobn == 0 {
		return kind[0], nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(rights[:oobn])
	if err != nil {
		return kind[0], nil, fmt.Errorf("read the terminal's descriptor: %w", err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return kind[0], nil, fmt.Errorf("read the terminal's descriptor: %w", err)
	}
	return kind[0], os.NewFile(uintptr(fds[0]), "terminal"), nil
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
	return p.follow(stdin, stdout)
}

// follow is the rest of Run, for a process that has started.
func (p *Process) follow(stdin *os.File, stdout io.Writer) (status int, err error) {
	if p.Terminal != nil {
		if err := Attach(p.Terminal, stdin, stdout); err != nil {
			p.Abort()
			return -1, err
		}
	}
	return p.Wait()
}

// Signal sends a signal to the process. One that has ended is no error.
func (p *Process) Signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Wait waits for the end of the process and of its output. The status is its exit status, or 128 + the number of the
// signal that ended it. With PID 1 the kernel ends all processes of the pid namespace: see pid_namespaces(7).
func (p *Process) Wait() (status int, err error) {
	err = p.cmd.Wait()
	if p.cmd.ProcessState == nil {
		return -1, err
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return -1, err // its output could not be copied
	}
	if ws := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		return 128 + int(ws.Signal()), nil
	}
	return p.cmd.ProcessState.ExitCode(), nil
}

// Kill ends the process, and with it all processes of its pid namespace.
func (p *Process) Kill() { p.cmd.Process.Kill() }

// Abort kills a process that is not wanted any more, and waits for its end.
func (p *Process) Abort() {
	if p.socket != nil {
		p.socket.Close()
	}
	if p.Terminal != nil {
		p.Terminal.Close()
	}
	// Errors would say that it has ended already, which is what we want.
	p.cmd.Process.Kill()
	p.cmd.Wait()
}
