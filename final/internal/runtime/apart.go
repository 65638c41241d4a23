//go:build linux

package runtime

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/tiny"
	"gocker/step01-pull/shared/advice"
	"gocker/step05-namespaces/birth"
	"gocker/step05-namespaces/inside"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/rootfs"
)

// Between its birth and execve(2) a process is gocker's child: it has a copy of gocker's memory, gocker's files, all rights and
// no filter. If there are other processes in its pid namespace, they see its number. They may not look into it, because it has
// more capabilities than they have: see "Ptrace access mode checking" in ptrace(2). But a process with CAP_SYS_PTRACE may.
//
// So if there may be such a process, the child is born outside of the pid namespace: no process inside can name it. It gives up
// all that the command is not to have, and executes a program that has nothing of gocker's: Child of package tiny. The child of
// this program is inside, and becomes the command. A process that looks into it finds what the command has anyway.

// mayBeLookedInto tells whether there may be a process with CAP_SYS_PTRACE in the pid namespace of spec's container.
func mayBeLookedInto(spec *specs.Spec) bool {
	capabilities := spec.Process.Capabilities
	isInside := func(ns specs.LinuxNamespace) bool { return ns.Type == specs.PIDNamespace } // the host's hides nothing
	return slices.ContainsFunc(spec.Linux.Namespaces, isInside) && !ownsUsers(spec) &&      // what is in one has no right over our child
		(capabilities == nil || slices.Contains(capabilities.Bounding, "CAP_SYS_PTRACE") || othersPids(spec) > 0)
}

// othersPids is a process in the pid namespace of others that the container shares, or 0. What the others may do is not known.
func othersPids(spec *specs.Spec) (pid int) {
	for _, ns := range spec.Linux.Namespaces {
		if ns.Type != specs.PIDNamespace || ns.Path == "" {
			continue
		}
		theirs, err := os.Stat(ns.Path)
		ours, ourErr := os.Stat("/proc/self/ns/pid")
		if err == nil && ourErr == nil && !os.SameFile(theirs, ours) {
			fmt.Sscanf(ns.Path, "/proc/%d/ns/pid", &pid)
		}
	}
	return pid
}

// apart is the part that has a process born outside of its pid namespace, which is the file pids. No later part may add to the
// child's list. dies says that the process dies with gocker.
func apart(pids string, process *specs.Process, dies bool) namespaces.Part {
	var theirs, program *os.File
	return namespaces.Part{
		Outside: func() (err error) {
			if theirs, err = os.Open(pids); err != nil {
				return err
			}
			if program, err = tiny.NewFile("gocker-child"); errors.Is(err, unix.EACCES) {
				err = advice.Add(err, "somebody in there may have CAP_SYS_PTRACE; so a command is begun by a program in memory, which the sysctl vm.memfd_noexec must allow")
			}
			return err
		},
		First: func(list *birth.List) error {
			list.Keep(program)
			list.Add("join the pid namespace", unix.SYS_SETNS, int(theirs.Fd()), unix.CLONE_NEWPID) // for its children
			return nil
		},
		Command: func(list *birth.List) (bool, error) {
			hasNUL := func(s string) bool { return strings.Contains(s, "\x00") }
			if slices.ContainsFunc(slices.Concat(process.Args, process.Env), hasNUL) {
				return false, nil // the usual end of a list has the error for it
			}
			socket, err := list.Pass()
			if err != nil {
				return false, err
			}
			name := []*byte{unsafe.StringData("gocker\x00"), nil}
			list.Add("execute "+program.Name(), unix.SYS_EXECVEAT, int(program.Fd()), "", unsafe.Pointer(&name[0]), 0, unix.AT_EMPTY_PATH)
			_, err = program.Write(childOf(list, socket, process, dies)) // nobody else has it, and it is executed only once
			return true, err
		},
		Ready: func(p *namespaces.Process) error { return p.Follow() },
		Failed: func(err error) error {
			var failed birth.Failed
			switch errors.As(err, &failed); failed.Number {
			case unix.SYS_EXECVEAT, unix.SYS_FCNTL, unix.SYS_CLONE, unix.SYS_SETSID, unix.SYS_IOCTL:
				return advice.Add(err, "somebody in there may have CAP_SYS_PTRACE; so a command begins with execveat, fcntl, clone and "+
					"setsid, and one process more: the seccomp profile and the limit of processes must allow that")
			}
			return err
		},
		Done: func(error) {
			for _, f := range []*os.File{theirs, program} {
				f.Close() // of nil it does nothing
			}
		},
	}
}

// childOf is the program that makes a process, with the calls by which that becomes the command. The list gets the same calls:
// the child never comes to them, but an error names them.
func childOf(list *birth.List, socket int, process *specs.Process, dies bool) []byte {
	first := list.Len()
	var calls []tiny.Call
	add := func(what string, special int, number uintptr, args ...any) {
		list.Add(what, number)
		calls = append(calls, tiny.Call{Number: number, Args: args, Special: special})
	}
	add("close the socket at execve", 0, unix.SYS_FCNTL, socket, unix.F_SETFD, unix.FD_CLOEXEC)
	if process.Terminal {
		add("leave the terminal", 0, unix.SYS_IOCTL, 0, unix.TIOCNOTTY) // the child's session is to have it
	}
	add("clone a process", tiny.Begets, unix.SYS_CLONE, unix.CLONE_PARENT|int(unix.SIGCHLD))
	add("wait for gocker", tiny.Waits, unix.SYS_READ, socket, 0, 1)
	if dies { // a new process forgets it
		add("prctl PR_SET_PDEATHSIG", 0, unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, int(unix.SIGKILL))
	}
	add("setsid", 0, unix.SYS_SETSID)
	if process.Terminal {
		add("make it the controlling terminal", 0, unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
	}
	noSignals := string(make([]byte, 8))
	add("unblock signals", 0, unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, noSignals, 0, len(noSignals))
	for _, path := range birth.Candidates(process.Args[0], process.Env) {
		add(path, tiny.OrNext, unix.SYS_EXECVE, path, process.Args, process.Env)
	}
	calls[len(calls)-1].Special = 0
	return tiny.Child(socket, first, calls)
}

// procOf is the part that mounts /proc in a container that shares the pid namespace of process pid. A new proc file system would
// show the pid namespace of the process that mounts it, and no process of gocker is in there. So the container gets that of pid.
func procOf(spec *specs.Spec, pid int) namespaces.Part {
	var all []bind
	return namespaces.Part{
		Outside: func() error {
			for _, m := range spec.Mounts {
				if m.Type != "proc" {
					continue
				}
				tree, err := treeOf(fmt.Sprintf("/proc/%d/root/proc", pid), 0)
				if err == nil {
					all = append(all, bind{m, tree})
					err = isProcOf(tree, pid)
				}
				if err != nil {
					return fmt.Errorf("bind the /proc of those whose pid namespace it shares: %w", err)
				}
			}
			return nil
		},
		Mount: func(_ *rootfs.Root, m specs.Mount) (bool, error) { return m.Type == "proc", nil },
		Inside: func() error { // after all others: as long as there is no /proc, no name leads through it
			for _, b := range all {
				if err := b.mount(false); err != nil {
					return err
				}
			}
			return nil
		},
		Done: func(error) {
			for _, b := range all {
				b.tree.Close()
			}
		},
	}
}

// isProcOf sees that a file is the root of a proc file system, and of pid's namespace: others may have mounted something else.
func isProcOf(f *os.File, pid int) error {
	const rootNumber = 1
	var root, shown, own unix.Stat_t
	err := errors.Join(unix.Fstat(int(f.Fd()), &root), unix.Stat(fmt.Sprintf("/proc/%d/ns/pid", pid), &own))
	if err == nil && root.Ino == rootNumber && inside.IsFileSystem(f, unix.PROC_SUPER_MAGIC) {
		err = unix.Fstatat(int(f.Fd()), "1/ns/pid", &shown, 0)
	}
	if err == nil && (shown.Dev != own.Dev || shown.Ino != own.Ino) {
		err = errors.New("it has been replaced")
	}
	return err
}
