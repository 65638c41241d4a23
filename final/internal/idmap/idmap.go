//go:build linux

// Package idmap gives a container users of its own: root in there is nobody on the host.
//
// A user namespace has a map that says who its users are outside. The container's files lie on the disk with the numbers that they
// have inside, as those of all other containers: layers are shared, and a map lasts only as long as the container runs. What lies
// between is an idmapped mount: it shows a file of user 0 as one of the user that is 0 in the namespace.
//
//	on the disk       in the mount, and so in overlayfs     in the container
//	user 0        →   user 100000                       →   user 0
//
// A user who is not root has copies of the layers instead: see Mapped of package store.
//
// See user_namespaces(7), and MOUNT_ATTR_IDMAP in mount_setattr(2), which overlayfs understands since Linux 5.19.
package idmap

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step03-layers/usernamespace"
	"gocker/step04-overlay/story"
	"gocker/step05-namespaces/birth"
)

// ErrUnmapped says that a user or a group has no number in a user namespace.
var ErrUnmapped = errors.New("the container's user namespace has no such id")

// Host is what an id of the container is on the host.
func Host(maps []specs.LinuxIDMapping, id uint32) (uint32, error) {
	if len(maps) == 0 {
		return id, nil
	}
	for _, m := range maps {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return m.HostID + id - m.ContainerID, nil
		}
	}
	if usernamespace.Inside() {
		return 0, advice.Add(fmt.Errorf("%w: %d", ErrUnmapped, id), "as root, give the user a larger range in /etc/subuid and /etc/subgid")
	}
	return 0, advice.Add(fmt.Errorf("%w: %d", ErrUnmapped, id), "give it more: --userns auto:size=%d", uint64(id)+1)
}

// Inside is what an id of the host is in the container: nobody, if it is nobody's there.
func Inside(maps []specs.LinuxIDMapping, id uint32) uint32 {
	const nobody = 65534 // see /proc/sys/kernel/overflowuid in proc(5)
	if len(maps) == 0 {
		return id
	}
	for _, m := range maps {
		if id >= m.HostID && id-m.HostID < m.Size {
			return m.ContainerID + id - m.HostID
		}
	}
	return nobody
}

// Make makes a user namespace with these maps, and namespaces that belong to it, by the flags of clone(2). It calls use with a
// process that is in there: when use has returned, the process ends.
func Make(users, groups []specs.LinuxIDMapping, flags int, use func(pidfd, user *os.File) error) error {
	list, err := birth.NewList()
	if err != nil {
		return err
	}
	list.Hide()
	list.Report()
	list.Wait()
	pid, pidfd, err := list.Clone(unix.CLONE_NEWUSER | flags)
	if err != nil {
		list.Close()
		return explain(fmt.Errorf("make a user namespace: %w", err))
	}
	defer func() {
		list.Close() // so it ends
		unix.PidfdSendSignal(int(pidfd.Fd()), unix.SIGKILL, nil, 0)
		for {
			if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.EINTR {
				break
			}
		}
		pidfd.Close()
	}()
	if err := list.Read(); err != nil {
		return fmt.Errorf("make a user namespace: %w", err)
	}
	for _, m := range []struct {
		file string
		maps []specs.LinuxIDMapping
	}{{"uid_map", users}, {"gid_map", groups}} {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, m.file), text(m.maps), 0); err != nil {
			return advice.Add(fmt.Errorf("give the user namespace its map %q: %w", text(m.maps), err),
				"no id may be there twice, inside or outside, and each must be one that gocker itself has")
		}
	}
	user, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", pid))
	if err != nil {
		return err
	}
	defer user.Close()
	return use(pidfd, user)
}

// Option is what mount(8) calls a mount with these maps, since util-linux 2.39.
func Option(linux *specs.Linux) string {
	var words []string
	for _, kind := range []struct {
		letter string
		maps   []specs.LinuxIDMapping
	}{{"u", linux.UIDMappings}, {"g", linux.GIDMappings}} {
		for _, m := range kind.maps {
			words = append(words, fmt.Sprintf("%s:%d:%d:%d", kind.letter, m.ContainerID, m.HostID, m.Size))
		}
	}
	return "X-mount.idmap=" + strings.Join(words, " ")
}

// Tell tells of the user namespace itself.
func Tell(linux *specs.Linux, tell story.Story) {
	if tell == nil || len(linux.UIDMappings) == 0 {
		return
	}
	tell.Run(story.Enter, "a user namespace, which will own all other new ones; nobody has a number in there yet", "unshare", "--user")
	for _, m := range []struct {
		file, why string
		maps      []specs.LinuxIDMapping
	}{{"uid_map", "who its users are outside: from there, and only once", linux.UIDMappings}, {"gid_map", "and its groups", linux.GIDMappings}} {
		tell.Sh(story.Pivot, m.why, "printf %s "+story.Quote(string(text(m.maps)))+" >/proc/$pid/"+m.file)
	}
}

func text(maps []specs.LinuxIDMapping) []byte {
	var b strings.Builder
	for _, m := range maps {
		fmt.Fprintf(&b, "%d %d %d\n", m.ContainerID, m.HostID, m.Size)
	}
	return []byte(b.String())
}

func explain(err error) error {
	if errors.Is(err, unix.ENOSPC) {
		return advice.Add(err, "raise the limit: sysctl user.max_user_namespaces=10000")
	}
	return err
}

// Apply makes a mount that is not attached yet an idmapped one, with all that is mounted below it.
func Apply(tree, user *os.File) error {
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(user.Fd())}
	err := unix.MountSetattr(int(tree.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) {
		return advice.Add(fmt.Errorf("show the ids of %q as the container has them: %w", tree.Name(), err),
			"its file system has no idmapped mounts: they are there for ext4, xfs and btrfs since Linux 5.15, for tmpfs since 6.3")
	}
	if err != nil {
		return fmt.Errorf("show the ids of %q as the container has them: %w", tree.Name(), err)
	}
	return nil
}

// Over shows folders with the ids of a container's user namespace: it mounts each over itself, for this thread. From then on the thread
// can make files there.
func Over(folders []string, linux *specs.Linux, user *os.File) error {
	for _, folder := range folders {
		fd, err := unix.OpenTree(unix.AT_FDCWD, folder, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return fmt.Errorf("open %q: %w", folder, err)
		}
		tree := os.NewFile(uintptr(fd), folder)
		err = Apply(tree, user)
		if err == nil {
			err = unix.MoveMount(fd, "", unix.AT_FDCWD, folder, unix.MOVE_MOUNT_F_EMPTY_PATH)
		}
		tree.Close()
		if err != nil {
			return fmt.Errorf("mount %q over itself: %w", folder, err)
		}
	}
	return MakeFiles(linux)
}

// MakeFiles has what this thread makes belong to the container's root. An id of the host that the container has not can make nothing
// in an idmapped mount. A change of the user for files takes the capabilities over files away, so the thread takes them again: see
// setfsuid(2) and capabilities(7).
func MakeFiles(linux *specs.Linux) error {
	uid, err := Host(linux.UIDMappings, 0)
	if err != nil {
		return err
	}
	gid, err := Host(linux.GIDMappings, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(unix.Setfsgid(int(gid)), unix.Setfsuid(int(uid))); err != nil {
		return fmt.Errorf("make files as user %d: %w", uid, err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData // 32 capabilities each
	err = unix.Capget(&header, &sets[0])
	if err == nil {
		sets[0].Effective, sets[1].Effective = sets[0].Permitted, sets[1].Permitted
		err = unix.Capset(&header, &sets[0])
	}
	if err != nil {
		return fmt.Errorf("take the capabilities over files again: %w", err)
	}
	return nil
}
