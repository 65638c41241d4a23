//go:build linux

package runtime

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/capabilities"
	"gocker/final/internal/idmap"
	"gocker/step05-namespaces/birth"
	"gocker/step05-namespaces/inside"
	"gocker/step05-namespaces/namespaces"
)

// A container may have users of its own: see package idmap. Then all its namespaces belong to its user namespace, and what root in
// there may do to them is no right over the host.
//
// Only a process with one thread may go into a user namespace, and we have many. So our thread goes only into the namespaces that
// belong to it: as the host's root it may do all in there. The child goes into the user namespace itself. Its pid namespace must
// belong to it, too: so there the child makes a child, which goes on.

// ownsUsers tells whether the container has a user namespace of its own.
func ownsUsers(spec *specs.Spec) bool { return len(spec.Linux.UIDMappings) > 0 }

// checkUsers sees that the container can have the user namespace that the spec wants.
func checkUsers(spec *specs.Spec) error {
	if !ownsUsers(spec) {
		return nil
	}
	isCgroup := func(ns specs.LinuxNamespace) bool { return ns.Type == specs.CgroupNamespace }
	if !slices.ContainsFunc(spec.Linux.Namespaces, isCgroup) {
		return fmt.Errorf("a user namespace without a cgroup namespace of its own: %w", ErrUnsupported)
	}
	if !hasOwnPids(spec) {
		return fmt.Errorf("a user namespace without a pid namespace of its own: %w", ErrUnsupported)
	}
	user := spec.Process.User
	_, err := idmap.Host(spec.Linux.UIDMappings, user.UID)
	for _, gid := range append(slices.Clone(user.AdditionalGids), user.GID) {
		_, groupErr := idmap.Host(spec.Linux.GIDMappings, gid)
		err = errors.Join(err, groupErr)
	}
	return err
}

// users is the part of a user namespace of the container's own. user is its file, from Unshare on.
func users(spec *specs.Spec, user **os.File) namespaces.Part {
	if !ownsUsers(spec) {
		return namespaces.Part{}
	}
	return namespaces.Part{
		Unshare: func(flags int) (left int, err error) {
			const most = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET
			err = idmap.Make(spec.Linux.UIDMappings, spec.Linux.GIDMappings, flags&most, func(pidfd, ns *os.File) error {
				if *user, err = reopen(ns); err != nil {
					return err
				}
				if err := unix.Unshare(unix.CLONE_FS); err != nil {
					return fmt.Errorf("unshare: %w", err)
				}
				if err := unix.Setns(int(pidfd.Fd()), flags&most); err != nil {
					return fmt.Errorf("join the namespaces of a user namespace: %w", err)
				}
				return nil
			})
			if err == nil {
				err = idmap.MakeFiles(spec.Linux)
			}
			return flags &^ (most | unix.CLONE_NEWPID), err
		},
		Inside: func() error { return giveQueues(spec) },
		First: func(list *birth.List) error {
			addUsers(list, *user)
			list.Again(unix.CLONE_NEWPID)
			return nil
		},
		Last: func(list *birth.List) error { return addBounds(list, spec.Process) },
		Done: func(error) { (*user).Close() }, // of nil it does nothing
	}
}

// joinsUsers is the part of one more process in a container that has users of its own. pid is its first process.
func joinsUsers(pid int, spec *specs.Spec) namespaces.Part {
	if !ownsUsers(spec) {
		return namespaces.Part{Outside: func() error {
			theirs, err := os.Stat(fmt.Sprintf("/proc/%d/ns/user", pid))
			ours, ourErr := os.Stat("/proc/self/ns/user")
			if err := errors.Join(err, ourErr); err != nil {
				return err
			}
			if !os.SameFile(theirs, ours) { // then the new process would have more rights than all others in there
				return fmt.Errorf("process %d is in a user namespace that its container's description does not have", pid)
			}
			return nil
		}}
	}
	var user *os.File
	return namespaces.Part{
		Outside: func() (err error) {
			user, err = os.Open(fmt.Sprintf("/proc/%d/ns/user", pid))
			return err
		},
		Inside: func() error { return idmap.MakeFiles(spec.Linux) },
		First: func(list *birth.List) error {
			addUsers(list, user)
			return nil
		},
		Last: func(list *birth.List) error { return addBounds(list, spec.Process) },
		Done: func(error) { user.Close() },
	}
}

// reopen is a copy of a file that outlives it.
func reopen(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("keep %s open: %w", f.Name(), err)
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// giveQueues gives the folder of message queues to the container's root. The kernel made it with the ipc namespace, when root had no
// number yet. Those of others are not given to it.
func giveQueues(spec *specs.Spec) error {
	isOwn := func(ns specs.LinuxNamespace) bool { return ns.Type == specs.IPCNamespace && ns.Path == "" }
	if !slices.ContainsFunc(spec.Linux.Namespaces, isOwn) {
		return nil
	}
	folder, err := inside.Find("/dev/mqueue")
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer folder.Close()
	const magic = 0x19800202 // MQUEUE_MAGIC of the kernel's ipc/mqueue.c
	if !inside.IsFileSystem(folder, magic) {
		return nil
	}
	return unix.Fchownat(int(folder.Fd()), "", int(spec.Linux.UIDMappings[0].HostID), int(spec.Linux.GIDMappings[0].HostID), unix.AT_EMPTY_PATH)
}

// withIDOfRoot calls do with the user id that the container's root has on the host: the kernel asks for it where settings of an ipc
// namespace are changed. Package unix would change it for all threads.
func withIDOfRoot(spec *specs.Spec, do func() error) error {
	if !ownsUsers(spec) {
		return do()
	}
	uid, err := idmap.Host(spec.Linux.UIDMappings, 0)
	if err != nil {
		return err
	}
	change := func(uid int) error {
		const same = ^uintptr(0)
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, same, uintptr(uid), same); errno != 0 {
			return fmt.Errorf("change to user %d: %w", uid, errno)
		}
		return nil
	}
	if err := change(int(uid)); err != nil {
		return err
	}
	return errors.Join(do(), change(0), idmap.MakeFiles(spec.Linux))
}

// addUsers takes the child into the user namespace, as its root.
func addUsers(list *birth.List, user *os.File) {
	list.Add("join the user namespace", unix.SYS_SETNS, int(user.Fd()), unix.CLONE_NEWUSER)
	list.Add("leave all groups", unix.SYS_SETGROUPS, 0, 0)
	list.Add("become group 0", unix.SYS_SETRESGID, 0, 0, 0)
	list.Add("become user 0", unix.SYS_SETRESUID, 0, 0, 0)
}

// addBounds takes capabilities from the child once more: in a new user namespace it has all.
func addBounds(list *birth.List, process *specs.Process) error {
	if process.Capabilities == nil {
		return nil
	}
	for c := capability.Cap(0); ; c++ {
		if _, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); err != nil {
			return nil // the kernel has no more
		}
		if name := capabilities.Name(c); !slices.Contains(process.Capabilities.Bounding, name) {
			list.Add("drop "+name, unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, int(c), 0, 0, 0)
		}
	}
}

// ProcessOutside is the spec's process with the number that its user has on the host: what is made for it outside is to be its.
func ProcessOutside(spec *specs.Spec) *specs.Process {
	if !ownsUsers(spec) {
		return spec.Process
	}
	process := *spec.Process
	if uid, err := idmap.Host(spec.Linux.UIDMappings, process.User.UID); err == nil { // else checkUsers says so
		process.User.UID = uid
	}
	return &process
}

// hostIDs are the spec's mounts with options that name owners: the thread that mounts them is not in the user namespace.
func hostIDs(spec *specs.Spec) ([]specs.Mount, error) {
	if !ownsUsers(spec) {
		return spec.Mounts, nil
	}
	mounts := slices.Clone(spec.Mounts)
	for i, m := range mounts {
		mounts[i].Options = slices.Clone(m.Options)
		for j, option := range m.Options {
			key, value, _ := strings.Cut(option, "=")
			maps := map[string][]specs.LinuxIDMapping{"uid": spec.Linux.UIDMappings, "gid": spec.Linux.GIDMappings}[key]
			id, err := strconv.ParseUint(value, 10, 32)
			if maps == nil || err != nil || isBind(m) {
				continue
			}
			host, err := idmap.Host(maps, uint32(id))
			if err != nil {
				return nil, fmt.Errorf("mount on %q: option %s: %w", m.Destination, option, err)
			}
			mounts[i].Options[j] = fmt.Sprintf("%s=%d", key, host)
		}
	}
	return mounts, nil
}
