//go:build linux

// Package rootfs makes a folder the root of a thread, and of the child that it will have, and mounts what belongs there.
//
// The thread has a mount namespace of its own. It finds mount points by names of the container: see package inside.
//
//	root, err := rootfs.Enter(folder, false)
//	err = root.Mount(m)          // for each entry of the spec
//	err = root.LeaveToChild(m)   // or this, for /proc
//	root.AddTo(list)
//	err = root.ChildMounts(func() error { … })   // the child is made, and mounts it
package rootfs

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step03-layers/usernamespace"
	"gocker/step04-overlay/check"
	"gocker/step05-namespaces/birth"
	"gocker/step05-namespaces/inside"
)

// ErrInProc says that something is to be mounted in /proc: that is how a container would be shown false files, by which
// those that set it up, or look after it, do something else than they think (CVE-2019-16884).
var ErrInProc = errors.New("nothing may be mounted in /proc")

// Enter makes a folder the root of the calling thread, which has a mount namespace of its own. ownUsers says that this belongs to a
// user namespace that the thread is not in.
func Enter(rootfs string, ownUsers bool) (*Root, error) {
	lent, err := lend(ownUsers)
	if err != nil {
		return nil, err
	}
	r := &Root{lent: lent, alone: usernamespace.Alone()}
	if err := enter(rootfs); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func enter(rootfs string) error {
	// systemd makes / a shared mount: what one namespace mounts, all others get. A new mount namespace starts as a
	// copy in which that still holds, so without this line the container's mounts appear on the host, and stay.
	// And pivot_root refuses a shared parent, with EINVAL.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return check.NotPrivate(err)
	}
	return pivot(rootfs)
}

// pivot makes rootfs the root folder, and unmounts the old one.
func pivot(rootfs string) error {
	// pivot_root wants a mount point, and a bundle's rootfs may be a plain folder: bound onto itself it is one.
	if err := unix.Mount(rootfs, rootfs, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind rootfs %q: %w", rootfs, err)
	}
	if err := unix.Chdir(rootfs); err != nil {
		return fmt.Errorf("chdir to rootfs %q: %w", rootfs, err)
	}
	// Not chroot(2): it leaves the old root mounted, and root walks out by a second chroot. With "." twice the old root ends
	// up on top of the new one, and the image needs no folder to put it: see NOTES in pivot_root(2).
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root to %q: %w", rootfs, err)
	}
	// At once: as long as it is on top of the new root, "/.." leads there, and a link of the image may say "/..".
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the old root: %w", err)
	}
	return unix.Chdir("/")
}

// A Root is a container's root file system on its way to be complete. The thread's root is there already.
type Root struct {
	child []childMount
	lent  lent
	alone bool // there is no other user, and no other group
}

// A childMount is one that shows the namespaces of the process that mounts it, so the child mounts it.
type childMount struct {
	specs.Mount
	point *os.File
}

// Close closes what the child needs to mount, and what the host has lent.
func (r *Root) Close() {
	r.lent.close()
	for _, m := range r.child {
		m.point.Close()
	}
}

// LeaveToChild has the child do a mount: a proc file system shows the pid namespace of the process that mounts it.
func (r *Root) LeaveToChild(m specs.Mount) error {
	point, err := inside.FindOrMake(m.Destination, false)
	if err != nil {
		return fmt.Errorf("make a mount point: %w", err)
	}
	r.child = append(r.child, childMount{m, point})
	return nil
}

// AddTo adds what the child mounts to its list.
func (r *Root) AddTo(list *birth.List) {
	for _, m := range r.child {
		flags, _, data := MountOptions(m.Options)
		what := fmt.Sprintf("mount %s on %q", m.Type, m.Destination)
		list.Add(what, unix.SYS_FCHDIR, int(m.point.Fd()))
		list.Add(what, unix.SYS_MOUNT, m.Source, ".", m.Type, flags, data)
	}
}

// ChildMounts makes the child, by a function that returns when the child has mounted what was left to it.
func (r *Root) ChildMounts(make func() error) error {
	if len(r.child) == 0 {
		return make()
	}
	return r.lent.while("/proc", make)
}

// Mount mounts a new file system, and fills /dev.
func (r *Root) Mount(m specs.Mount) error {
	point, err := inside.FindOrMake(m.Destination, false)
	if err != nil {
		return fmt.Errorf("make a mount point: %w", err)
	}
	defer point.Close()
	if inside.IsFileSystem(point, unix.PROC_SUPER_MAGIC) {
		return fmt.Errorf("mount on %q: %w", m.Destination, ErrInProc)
	}
	if m.Type == "devpts" && r.alone { // gid=5 is the group tty, and there is none
		m.Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return strings.HasPrefix(o, "gid=") })
	}
	flags, _, data := MountOptions(m.Options)
	mount := func() error { return inside.MountOn(point, m.Source, m.Type, flags, data) }
	if m.Type == "sysfs" {
		err = r.lent.while("/sys", mount)
	} else {
		err = mount()
	}
	if err != nil {
		return fmt.Errorf("mount %s on %q: %w", m.Type, m.Destination, err)
	}
	if m.Destination == "/dev" {
		return r.lent.fillDev()
	}
	return nil
}

// mountFlags are the options of mount(8) that are a bit of mount(2), which they set or clear: see config.md, "Linux mount
// options". All others are for the file system.
var mountFlags = map[string]struct{ set, clear uintptr }{
	"defaults": {}, "bind": {}, "rbind": {},
	"ro": {set: unix.MS_RDONLY}, "rw": {clear: unix.MS_RDONLY},
	"nosuid": {set: unix.MS_NOSUID}, "suid": {clear: unix.MS_NOSUID},
	"nodev": {set: unix.MS_NODEV}, "dev": {clear: unix.MS_NODEV},
	"noexec": {set: unix.MS_NOEXEC}, "exec": {clear: unix.MS_NOEXEC},
	"nodiratime": {set: unix.MS_NODIRATIME}, "diratime": {clear: unix.MS_NODIRATIME},
	"sync": {set: unix.MS_SYNCHRONOUS}, "async": {clear: unix.MS_SYNCHRONOUS}, "dirsync": {set: unix.MS_DIRSYNC},
	"strictatime": {set: unix.MS_STRICTATIME}, "noatime": {set: unix.MS_NOATIME}, "relatime": {set: unix.MS_RELATIME},
}

// MountOptions sorts options: bits to be set, bits to be cleared where they are set, and words for the file system.
func MountOptions(options []string) (set, clear uintptr, data string) {
	var words []string
	for _, option := range options {
		flag, ok := mountFlags[option]
		if !ok {
			words = append(words, option)
		}
		set, clear = set&^flag.clear|flag.set, clear&^flag.set|flag.clear
	}
	return set, clear, strings.Join(words, ",")
}
