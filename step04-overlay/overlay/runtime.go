//go:build linux

package overlay

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/merged"
	"gocker/step04-overlay/check"
	"gocker/step04-overlay/story"
)

// The steps do not need this, but the runtime does.

// MountAside mounts for one thread alone, in a mount namespace of its own, and calls use there. Afterwards nothing is
// mounted, also if this process was killed. Of the working directory and of what use mounts only that thread knows.
func (f *FS) MountAside(use func() error) error {
	return f.aside(func(lower merged.Stack) error { return f.mount(f.options(lower)) }, use)
}

// LayersAside is MountAside for the layers alone, which nobody can change there.
func (f *FS) LayersAside(use func() error) error {
	return f.aside(func(lower merged.Stack) error {
		if err := os.MkdirAll(f.none(), 0o755); err != nil {
			return err
		}
		if err := unix.Mount("overlay", f.Mnt(), "overlay", unix.MS_NODEV|unix.MS_RDONLY, f.layerOptions(lower)); err != nil {
			return f.explain(fmt.Errorf("mount overlay on %q: %w", f.Mnt(), err))
		}
		return nil
	}, use)
}

// mountOver is Mount with Over: only the mount of the whole gets to where all see it.
func (f *FS) mountOver() error {
	var tree *os.File
	err := f.MountAside(func() error {
		fd, err := unix.OpenTree(unix.AT_FDCWD, f.Mnt(), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return fmt.Errorf("open the mount at %q: %w", f.Mnt(), err)
		}
		tree = os.NewFile(uintptr(fd), f.Mnt())
		return nil
	})
	if err != nil {
		return err
	}
	defer tree.Close()
	if err := unix.MoveMount(int(tree.Fd()), "", unix.AT_FDCWD, f.Mnt(), unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount overlay on %q: %w", f.Mnt(), err)
	}
	return nil
}

func (f *FS) aside(mount func(lower merged.Stack) error, use func() error) error {
	return check.InOwnMounts(func() error {
		err := error(nil)
		if f.Over != nil {
			err = f.Over(append(slices.Clone(f.Lower), filepath.Dir(f.Mnt())))
		}
		if err != nil {
			return err
		}
		if f.optionsFit() {
			err = mount(f.Lower)
		} else {
			err = f.inLinks(mount)
		}
		if err != nil {
			return err
		}
		return use()
	})
}

// layerOptions are options without a folder for changes. Then overlayfs wants two layers: an empty folder is the lowest.
func (f *FS) layerOptions(lower merged.Stack) string {
	changes := fmt.Sprintf(",upperdir=%s,workdir=%s", Escape(f.Upperdir()), Escape(f.Workdir()))
	return strings.Replace(f.options(slices.Insert(slices.Clone(lower), 0, f.none())), changes, "", 1)
}

// TellLayers tells how LayersAside mounts, at a folder.
func (f *FS) TellLayers(tell story.Story, why, at string) {
	tell.Sh(story.Inside, why, story.Quote("mkdir", "-p", f.none())+"\n"+
		story.Quote("mount", "-t", "overlay", "-o", "ro,nodev,"+f.layerOptions(f.Lower), "overlay", at))
}

// At is a container's file system, which somebody else has. The container's folder may be a link to another one, where its files
// are: then all names of the FS are there, and lead through no link.
func At(d dirs.Dirs, id string) *FS {
	f := &FS{ID: id, Dir: d.Container(id)}
	if folder, err := os.Readlink(f.Dir); err == nil {
		f.Dir = folder
	}
	return f
}

// Lock is what holds the container, for a process that goes on with it. There it is Adopt's.
func (f *FS) Lock() *os.File { return f.lock }

// Adopt is Open for a process that was given the lock.
func Adopt(d dirs.Dirs, id string, lock *os.File) *FS {
	f := At(d, id)
	f.lock = lock
	return f
}
