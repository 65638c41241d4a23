//go:build linux

package rootfs

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step03-layers/usernamespace"
	"gocker/step05-namespaces/inside"
)

// What root of a user namespace cannot make, the host lends. There are two kinds:
//
// Device nodes. mknod(2) wants the capability over the whole machine, as the number of a device may be its disk. But the user
// may use the host's own /dev/null anyhow, and bind it.
//
// A proc file system, or a sysfs. If a mount namespace belongs to a user namespace, the kernel mounts one there only where
// another is mounted already that nothing covers. Else a user would see the files that somebody has covered. The container has none when its own are mounted: the
// host's are gone with the old root. So those are there for this moment, where no name leads but "/..", and all names are
// known. See mount_too_revealing in the kernel's fs/namespace.c.
type lent map[string]*os.File // by the host's names; not mounted yet

// lend looks for them while names are the host's. To the machine's own root the host lends nothing, unless the container has a
// user namespace of its own.
func lend(ownUsers bool) (lent, error) {
	if !ownUsers && !usernamespace.Inside() {
		return nil, nil
	}
	l := lent{"/proc": nil, "/sys": nil}
	if usernamespace.Inside() {
		for _, d := range DefaultDevices {
			l[d.Path] = nil
		}
	}
	for name := range l {
		f, err := inside.Find(name)
		if err == nil {
			l[name], err = inside.CloneTree(f, unix.AT_RECURSIVE)
			f.Close()
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			l.close()
			return nil, fmt.Errorf("find %q of the host: %w", name, err)
		}
	}
	return l, nil
}

func (l lent) close() {
	for _, tree := range l {
		tree.Close() // of nil it is an error, and nothing else
	}
}

// while calls do while the host's file system of a name is there. Each can be there once.
func (l lent) while(name string, do func() error) error {
	tree := l[name]
	if tree == nil {
		return do()
	}
	l[name] = nil
	defer tree.Close()
	root, err := inside.Find("/")
	if err != nil {
		return err
	}
	defer root.Close()
	if err := inside.Attach(tree, root); err != nil {
		return fmt.Errorf("show the host's %s: %w", name, err)
	}
	err = do()
	if errors.Is(err, unix.EPERM) {
		err = advice.Add(err, "something covers a part of the host's %s, as in most containers, so no user may have another: see gocker doctor", name)
	}
	// The folder is its root, and "." the only name that it has.
	gone := unix.Fchdir(int(tree.Fd()))
	if gone == nil {
		gone = unix.Unmount(".", unix.MNT_DETACH)
	}
	if gone == nil {
		gone = unix.Chdir("/")
	}
	if gone != nil {
		gone = fmt.Errorf("hide the host's %s: %w", name, gone)
	}
	return errors.Join(err, gone)
}

// device binds a device of the host in the folder at, if the host lends it.
func (l lent) device(path string, at int, name string) (bound bool, err error) {
	tree := l[path]
	if tree == nil {
		return false, nil
	}
	fd, err := unix.Openat(at, name, unix.O_CREAT|unix.O_EXCL|unix.O_RDONLY|unix.O_CLOEXEC, 0o666)
	if err != nil {
		return false, err
	}
	point := os.NewFile(uintptr(fd), name)
	defer point.Close()
	return true, inside.Attach(tree, point)
}
