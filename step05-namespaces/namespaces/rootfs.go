//go:build linux

package namespaces

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step04-overlay/story"
	"gocker/step05-namespaces/inside"
)

// A rootfs is a root file system on its way to be complete.
type rootfs struct {
	trees []*os.File   // of each mount of the spec, in its order: what is to be bound from the host, or nil
	child []childMount // what the child mounts
	tell  story.Story
	parts []Part
}

// taken tells whether a part has dealt with an entry.
func (r *rootfs) taken(m specs.Mount) (done bool, err error) {
	for _, part := range r.parts {
		if done, err = part.Mount(m); done || err != nil {
			break
		}
	}
	return done, err
}

// A childMount is one that shows the namespaces of the process that mounts it.
type childMount struct {
	specs.Mount
	point *os.File
}

func (r *rootfs) close() {
	closeAll(r.trees)
	for _, m := range r.child {
		m.point.Close()
	}
}

// enter makes spec.Root.Path the root folder of this mount namespace and of this thread, and mounts what the spec asks
// for, but for what finish does.
func (r *rootfs) enter(spec *specs.Spec) (err error) {
	unix.Umask(0o022) // what is made here has the mode that is asked for, and the command begins with docker's umask
	// Before all is made private: a bind may want to stay in touch with the host's mount.
	if r.trees, err = pickUp(spec.Mounts); err != nil {
		return err
	}
	var folder *specs.Mount
	var trees []specs.Mount
	if i := slices.IndexFunc(spec.Mounts, isCgroup); i >= 0 {
		if folder, trees, err = cgroupMounts(spec.Mounts[i]); err != nil {
			return err
		}
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
		if done, err := r.taken(m); done || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		if !inProc(spec, m) || isProc(m) {
			r.tellMissing(m.Destination, r.trees[i])
		}
		switch {
		case isProc(m):
			if err := r.leave(m); err != nil {
				return err
			}
		case isCgroup(m):
			if folder != nil {
				if err := mountOne(spec, *folder, nil); err != nil {
					return err
				}
				r.tellMount(spec, *folder)
			}
			for _, tree := range trees {
				if err := r.leaveCgroup(tree); err != nil {
					return err
				}
			}
		case !inProc(spec, m):
			if err := mountOne(spec, m, r.trees[i]); err != nil {
				return err
			}
			r.tellMount(spec, m)
		}
	}
	return nil
}

// leave leaves a mount to the child.
func (r *rootfs) leave(m specs.Mount) error {
	point, err := inside.FindOrMake(m.Destination, false)
	if err != nil {
		return fmt.Errorf("make a mount point: %w", err)
	}
	r.child = append(r.child, childMount{m, point})
	return nil
}

// leaveCgroup leaves a tree of cgroups to the child. One that has several controllers, "cpu,cpuacct", is known by each.
func (r *rootfs) leaveCgroup(tree specs.Mount) error {
	r.tellMissing(tree.Destination, nil)
	if err := r.leave(tree); err != nil {
		return err
	}
	folder, all := filepath.Split(tree.Destination)
	for _, controller := range strings.Split(all, ",") {
		if controller == all {
			break
		}
		name := filepath.Join(folder, controller)
		if err := os.Symlink(all, name); err != nil {
			return err
		}
		r.tell.Run(story.Inside, "a name that programs expect", "ln", "-s", all, inRoot(folder)+"/"+controller)
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
	folder, err := inside.FindOrMake(spec.Process.Cwd, false) // as docker does
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

// addMounts has the child mount what shows its own namespaces. ownCgroups says that it has a cgroup namespace.
func (p *Process) addMounts(mounts []childMount, ownCgroups bool) {
	for _, m := range mounts {
		flags, _, data := mountOptions(m.Mount)
		what := fmt.Sprintf("mount %s on %q", m.Type, m.Destination)
		p.list.Add(what, unix.SYS_FCHDIR, int(m.point.Fd()))
		p.list.Add(what, unix.SYS_MOUNT, m.Source, ".", m.Type, flags, data)
		switch {
		case p.later == nil:
		case isProc(m.Mount):
			p.later.Run(story.Inside, "by the child, as /proc shows the pid namespace of who mounts it", mountCommand(m.Mount)...)
		case ownCgroups:
			p.later.Run(story.Join, "by the child, as it shows the cgroup namespace of who mounts it", append([]string{"unshare", "--cgroup"}, mountCommand(m.Mount)...)...)
		default:
			p.later.Run(story.Join, "by the child", mountCommand(m.Mount)...)
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
