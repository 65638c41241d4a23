//go:build linux

package namespaces

import (
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/story"
)

// A rootfs is a root file system on its way to be complete.
type rootfs struct {
	trees []*os.File // of each mount of the spec, in its order: what is to be bound from the host, or nil
	proc  []*os.File // where the child mounts proc
	tell  story.Story
}

func (r *rootfs) close() {
	closeAll(r.trees)
	closeAll(r.proc)
}

// enter makes spec.Root.Path the root folder of this mount namespace and of this thread, and mounts what the spec asks
// for, but for what finish does.
func (r *rootfs) enter(spec *specs.Spec) (err error) {
	unix.Umask(0o022) // what is made here has the mode that is asked for, and the command begins with docker's umask
	// Before all is made private: a bind may want to stay in touch with the host's mount.
	if r.trees, err = pickUp(spec.Mounts); err != nil {
		return err
	}
	// systemd makes / a shared mount: what one namespace mounts, all others get. A new mount namespace starts as a
	// copy in which that still holds, so without this line the container's mounts appear on the host, and stay.
	// And pivot_root refuses a shared parent, with EINVAL.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make all mounts private: %w", err)
	}
	r.tell.Run(story.Inside, "modes as they are asked for", "umask", "022")
	r.tell.Run(story.Inside, "what is mounted from here on is nobody else's", "mount", "--make-rprivate", "/")
	if err := pivot(spec.Root.Path); err != nil {
		return err
	}
	r.tellPivot()
	for i, m := range spec.Mounts {
		if !inProc(spec, m) || isProc(m) {
			r.tellMissing(m.Destination, r.trees[i])
		}
		switch {
		case isProc(m): // the child's
			point, err := findOrMake(m.Destination, false)
			if err != nil {
				return fmt.Errorf("make a mount point: %w", err)
			}
			r.proc = append(r.proc, point)
		case !inProc(spec, m):
			if err := mountOne(spec, m, r.trees[i]); err != nil {
				return err
			}
			r.tellMount(spec, m)
		}
	}
	return nil
}

// finish does what can be done only when /proc is mounted.
func (r *rootfs) finish(spec *specs.Spec) error {
	for i, m := range spec.Mounts {
		if !isProc(m) && inProc(spec, m) {
			r.tellMissing(m.Destination, r.trees[i])
			if err := mountOne(spec, m, r.trees[i]); err != nil {
				return err
			}
			r.tellMount(spec, m)
		}
	}
	if err := setSysctls(spec.Linux.Sysctl, r.tell); err != nil { // before /proc/sys may be read-only
		return err
	}
	if err := coverPaths(spec.Linux); err != nil {
		return err
	}
	r.tellCovers(spec.Linux)
	r.tellMissing(spec.Process.Cwd, nil)
	folder, err := findOrMake(spec.Process.Cwd, false) // as docker does
	if err != nil {
		return fmt.Errorf("make the working folder: %w", err)
	}
	folder.Close()
	r.tellFolder(spec.Process.Cwd)
	if spec.Root.Readonly {
		// Only this attribute: to mount(2) the others that are not said again, such as nodev, are taken back.
		if err := unix.MountSetattr(unix.AT_FDCWD, "/", 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
			return fmt.Errorf("make the root read-only: %w", err)
		}
		r.tell.Run(story.Inside, "nothing of the image can be changed", "mount", "-o", "remount,bind,ro", story.Root)
	}
	return nil
}

// addProc has the child mount /proc.
func (b *birth) addProc(mounts []specs.Mount, points []*os.File) {
	for _, m := range mounts {
		if isProc(m) {
			flags, _, data := mountOptions(m)
			what := fmt.Sprintf("mount proc on %q", m.Destination)
			b.add(what, unix.SYS_FCHDIR, int(points[0].Fd()))
			b.add(what, unix.SYS_MOUNT, m.Source, ".", m.Type, flags, data)
			points = points[1:]
			if b.tell != nil {
				b.tell.Run(story.Inside, "by the child, as /proc shows the pid namespace of who mounts it", mountCommand(m)...)
			}
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
