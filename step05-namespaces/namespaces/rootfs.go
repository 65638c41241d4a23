//go:build linux

package namespaces

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// enterRootfs makes spec.Root.Path the root folder of this mount namespace and of this thread, and mounts what the spec
// asks for, but for what finishRootfs does. It returns what of the host is still to be bound: the caller closes it.
func enterRootfs(spec *specs.Spec) (binds map[string]*os.File, err error) {
	unix.Umask(0o022) // what is made here has the mode that is asked for, and the command begins with docker's umask
	// systemd makes / a shared mount: what one namespace mounts, all others get. A new mount namespace starts as a
	// copy in which that still holds, so without this line the container's mounts appear on the host, and stay.
	// And pivot_root refuses a shared parent, with EINVAL.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make all mounts private: %w", err)
	}
	binds, err = pickUp(spec.Mounts)
	if err != nil {
		return binds, err
	}
	if err := pivot(spec.Root.Path); err != nil {
		return binds, err
	}
	// All names below begin at the new root, and nothing is above it: links of the image lead nowhere else.
	for _, m := range spec.Mounts {
		switch {
		case isProc(m): // the child's
			err = makeFolder(m.Destination)
		case !inProc(spec, m):
			err = mountOne(m, binds)
		}
		if err != nil {
			return binds, err
		}
	}
	return binds, nil
}

// finishRootfs does what can be done only when /proc is mounted.
func finishRootfs(spec *specs.Spec, binds map[string]*os.File) error {
	for _, m := range spec.Mounts {
		if !isProc(m) && inProc(spec, m) {
			if err := mountOne(m, binds); err != nil {
				return err
			}
		}
	}
	if err := coverPaths(spec.Linux); err != nil {
		return err
	}
	if err := os.MkdirAll(spec.Process.Cwd, 0o755); err != nil { // as docker does
		return fmt.Errorf("make the working folder: %w", err)
	}
	if spec.Root.Readonly {
		if err := unix.Mount("", "/", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("make the root read-only: %w", err)
		}
	}
	return nil
}

// A proc file system shows the pid namespace of the process that mounts it.
func isProc(m specs.Mount) bool { return m.Type == "proc" }

// inProc tells whether a mount is on one of the spec's proc mounts, or below.
func inProc(spec *specs.Spec, m specs.Mount) bool {
	return slices.ContainsFunc(spec.Mounts, func(proc specs.Mount) bool {
		return isProc(proc) && strings.HasPrefix(m.Destination+"/", proc.Destination+"/")
	})
}

// addProc has the child mount /proc.
func (b *birth) addProc(mounts []specs.Mount) {
	for _, m := range mounts {
		if isProc(m) {
			flags, data := mountOptions(m)
			b.add(fmt.Sprintf("mount proc on %q", m.Destination), unix.SYS_MOUNT, m.Source, m.Destination, m.Type, flags, data)
		}
	}
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
	// chroot(2) would change what "/" means and leave the old root mounted: who is root walks out again by a second
	// chroot. pivot_root takes it away. With "." twice the old root ends up on top of the new one, where it can be
	// unmounted, and the image needs no folder to put it: see NOTES in pivot_root(2).
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root to %q: %w", rootfs, err)
	}
	// At once: as long as it is on top of the new root, "/.." leads there, and a link of the image may say "/..".
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("chdir to the new root: %w", err)
	}
	return nil
}

// pickUp opens what is to be bound from the host, while the host's names are still there: by destination.
func pickUp(mounts []specs.Mount) (map[string]*os.File, error) {
	trees := map[string]*os.File{}
	for _, m := range mounts {
		if m.Type != "bind" {
			continue
		}
		tree, err := unix.OpenTree(unix.AT_FDCWD, m.Source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if err != nil {
			return trees, fmt.Errorf("bind %q: %w", m.Source, err)
		}
		trees[m.Destination] = os.NewFile(uintptr(tree), m.Source)
	}
	return trees, nil
}

func closeAll(files map[string]*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// mountFlags are the options of mount(8) that mount(2) wants as bits. All others are left for the file system.
var mountFlags = map[string]uintptr{
	"ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC,
	"strictatime": unix.MS_STRICTATIME, "relatime": unix.MS_RELATIME, "noatime": unix.MS_NOATIME,
}

func mountOptions(m specs.Mount) (flags uintptr, data string) {
	var others []string
	for _, option := range m.Options {
		if flag, ok := mountFlags[option]; ok {
			flags |= flag
		} else {
			others = append(others, option)
		}
	}
	return flags, strings.Join(others, ",")
}

// mountOne mounts one entry of the spec: what was picked up from the host, or a new file system.
func mountOne(m specs.Mount, binds map[string]*os.File) error {
	if tree, ok := binds[m.Destination]; ok {
		return bind(m, int(tree.Fd()))
	}
	if err := makeFolder(m.Destination); err != nil {
		return err
	}
	flags, data := mountOptions(m)
	if err := unix.Mount(m.Source, m.Destination, m.Type, flags, data); err != nil {
		return fmt.Errorf("mount %s on %q: %w", m.Type, m.Destination, err)
	}
	if m.Destination == "/dev" {
		return makeDevices()
	}
	return nil
}

func makeFolder(path string) error {
	if err := mkdirAll(path, 40); err != nil {
		return fmt.Errorf("make a mount point: %w", err)
	}
	return nil
}

// mkdirAll is os.MkdirAll, and where a link of the image leads to nothing it makes that, as docker does. It follows at
// most that many links: the kernel's own limit is 40, see path_resolution(7).
func mkdirAll(path string, links int) error {
	err := os.MkdirAll(path, 0o755)
	var at *fs.PathError
	if !errors.As(err, &at) || !errors.Is(err, fs.ErrExist) || links == 0 {
		return err
	}
	target, notLink := os.Readlink(at.Path)
	if notLink != nil {
		return err
	}
	if !filepath.IsAbs(target) {
		target = filepath.Dir(at.Path) + "/" + target // not cleaned: what ".." leaves may be a link, too
	}
	if err := mkdirAll(target, links-1); err != nil {
		return err
	}
	return mkdirAll(path, links-1)
}

// bind attaches a file or folder of the host, picked up as tree. See open_tree(2) and move_mount(2).
func bind(m specs.Mount, tree int) error {
	var source unix.Stat_t
	if err := unix.Fstat(tree, &source); err != nil {
		return fmt.Errorf("bind %q: %w", m.Source, err)
	}
	point := m.Destination
	if source.Mode&unix.S_IFMT != unix.S_IFDIR {
		point = filepath.Dir(point)
	}
	err := mkdirAll(point, 40)
	if err == nil && point != m.Destination {
		var file *os.File
		if file, err = os.OpenFile(m.Destination, os.O_CREATE|os.O_RDONLY, 0o644); err == nil {
			err = file.Close()
		}
	}
	if err != nil {
		return fmt.Errorf("make a mount point: %w", err)
	}
	if slices.Contains(m.Options, "ro") {
		// The clone is not attached yet: nobody can write to it before it is read-only, with all mounts below it.
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
			return fmt.Errorf("make the bind of %q read-only (this needs Linux 5.12): %w", m.Source, err)
		}
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, m.Destination, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("bind %q on %q: %w", m.Source, m.Destination, err)
	}
	return nil
}

// makeDevices makes the nodes without which programs do not work: see config-linux.md, "Default Devices".
func makeDevices() error {
	old := unix.Umask(0)
	defer unix.Umask(old)
	for _, d := range []struct {
		name         string
		major, minor uint32
	}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}} {
		if err := unix.Mknod(filepath.Join("/dev", d.name), unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return fmt.Errorf("mknod /dev/%s: %w", d.name, err)
		}
	}
	for link, target := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd",
		"stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, filepath.Join("/dev", link)); err != nil {
			return err
		}
	}
	return nil
}
