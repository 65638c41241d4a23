//go:build linux

// Package inside finds and makes files by the names that they have in a container.
//
// Names in a container are the image's: its /dev may be a link to /etc, and a mount point a link to nothing. The thread
// that follows them here is the container's, after pivot_root: its root folder is the container's own. Nothing of the
// host has a name any more: ".." and links end at that root, so there is no need to check where a name leads, nor for
// RESOLVE_IN_ROOT, which is for programs that look in from outside.
//
// One kind of link leads out all the same: those of a proc file system. /proc/1/root, cwd and fd/5 are not followed by
// name, they are the file itself, wherever it is; and as long as PID 1 is gocker's child, that may be one of the host.
// So they are refused, by RESOLVE_NO_MAGICLINKS. And a name is looked up only once: what comes back is a descriptor, and
// that is what is mounted on, so nobody can swap the name in between. See openat2(2) and proc_pid_fd(5).
package inside

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Find opens what a name is in the container, only to refer to it.
func Find(name string) (*os.File, error) {
	fd, err := findAt(unix.AT_FDCWD, name, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func findAt(at int, name string, flags uint64) (int, error) {
	return unix.Openat2(at, name, &unix.OpenHow{Flags: flags | unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS})
}

// FindOrMake is find, and makes what is missing: a folder, or an empty file. Where a link leads to nothing, it makes
// that, as docker does.
func FindOrMake(name string, isFile bool) (*os.File, error) {
	const mostLinks = 40 // the kernel's own limit: see path_resolution(7)
	fd, err := findOrMakeAt(unix.AT_FDCWD, name, isFile, mostLinks)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// MakeFolder makes a folder if it is missing, as docker does with the one that a command begins in.
func MakeFolder(name string) error {
	folder, err := FindOrMake(name, false)
	if err != nil {
		return err
	}
	return folder.Close()
}

// findOrMakeAt looks up name from the folder at.
func findOrMakeAt(at int, name string, isFile bool, links int) (int, error) {
	kind := uint64(unix.O_DIRECTORY)
	if isFile {
		kind = 0
	}
	fd, err := findAt(at, name, kind)
	if err != unix.ENOENT || links == 0 {
		return fd, err
	}
	dir, base := filepath.Split(strings.TrimRight(name, "/"))
	if dir != "" {
		if at, err = findOrMakeAt(at, dir, false, links); err != nil {
			return -1, err
		}
		defer unix.Close(at)
	}
	if isFile {
		fd, err = unix.Openat(at, base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
		if err == nil {
			unix.Close(fd)
		}
	} else {
		err = unix.Mkdirat(at, base, 0o755)
	}
	if err == unix.EEXIST { // a link to nothing
		target := make([]byte, unix.PathMax)
		if n, err := unix.Readlinkat(at, base, target); err == nil {
			return findOrMakeAt(at, string(target[:n]), isFile, links-1)
		}
	} else if err != nil {
		return -1, err
	}
	return findAt(at, base, kind|unix.O_NOFOLLOW)
}

// IsFileSystem tells whether a file is of the file system that is known by this magic number: see statfs(2).
func IsFileSystem(f *os.File, magic int64) bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(int(f.Fd()), &fs) == nil && int64(fs.Type) == magic
}

// IsFolder tells whether a descriptor is one of a folder.
func IsFolder(f *os.File) (bool, error) {
	var stat unix.Stat_t
	err := unix.Fstat(int(f.Fd()), &stat)
	return stat.Mode&unix.S_IFMT == unix.S_IFDIR, err
}

// MountOn mounts a new file system on a folder. mount(2) knows only names, and "." is one that cannot be swapped.
func MountOn(point *os.File, source, fstype string, flags uintptr, data string) error {
	if err := unix.Fchdir(int(point.Fd())); err != nil {
		return err
	}
	return unix.Mount(source, ".", fstype, flags, data)
}

// CloneTree is a copy of a mount, with a file or folder as its root, that is not mounted anywhere yet. See open_tree(2).
func CloneTree(f *os.File, flags uint) (*os.File, error) {
	tree, err := unix.OpenTree(int(f.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH|flags)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(tree), f.Name()), nil
}

// Attach mounts a tree on a file or folder. See move_mount(2).
func Attach(tree, point *os.File) error {
	return unix.MoveMount(int(tree.Fd()), "", int(point.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// FindNull finds the null device: the real one, which an image or a volume at /dev may not be.
func FindNull() (*os.File, error) {
	null, err := Find(os.DevNull)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	var stat unix.Stat_t
	if err := unix.Fstat(int(null.Fd()), &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFCHR || stat.Rdev != unix.Mkdev(1, 3) {
		null.Close()
		return nil, fmt.Errorf("%s of the container is not the null device", os.DevNull)
	}
	return null, nil
}
