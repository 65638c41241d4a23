//go:build linux

package cage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"gocker/step03-layers/usernamespace"
	"gocker/step04-overlay/overlay"
)

// own are the folders that a container has for itself.
var own = []string{"/proc", "/sys", "/dev"}

// build mounts the root, on a thread that has a mount namespace of its own.
func (c *Cage) build() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make all mounts private: %w", err)
	}
	others, err := mountinfo.GetMounts(nil)
	if err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", c.folder, "tmpfs", 0, fmt.Sprintf("size=%d,mode=755", Disk)); err != nil {
		return fmt.Errorf("mount tmpfs on %q: %w", c.folder, err)
	}
	for _, name := range []string{"root", "upper", "uppers", "work", "learn", "aside", "learn/tmp"} {
		if err := os.Mkdir(filepath.Join(c.folder, name), 0o755); err != nil {
			return err
		}
	}
	if c.memory, err = os.Open(c.folder); err != nil {
		return err
	}
	root := filepath.Join(c.folder, "root")
	if usernamespace.Inside() {
		err = c.showFolders(root)
	} else {
		err = c.showAll(root, others)
	}
	if err != nil {
		return err
	}
	learn := root + Dir
	if err := os.Mkdir(learn, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return unix.Mount(filepath.Join(c.folder, "learn"), learn, "", unix.MS_BIND, "")
}

// overlay shows a folder at another name. What is changed there is in upper, a folder of the cage.
func (c *Cage) overlay(folder, upper, at string) error {
	upper, work := filepath.Join(c.folder, upper), filepath.Join(c.folder, "work", strings.ReplaceAll(upper, "/", "-"))
	for _, name := range []string{upper, work} {
		if err := os.MkdirAll(name, 0o755); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", overlay.Escape(folder), overlay.Escape(upper), overlay.Escape(work))
	if usernamespace.Inside() {
		options += ",userxattr"
	}
	if err := unix.Mount("overlay", at, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount an overlay of %q: %w", folder, err)
	}
	return nil
}

// showAll is for the machine's root: an overlay of /, and the other file systems.
func (c *Cage) showAll(root string, others []*mountinfo.Info) error {
	if err := c.overlay("/", "upper", root); err != nil {
		return err
	}
	for _, m := range others {
		isOwn := slices.ContainsFunc(own, func(name string) bool { return strings.HasPrefix(m.Mountpoint+"/", name+"/") })
		if m.Mountpoint == "/" || m.FSType == "autofs" || m.FSType == "nsfs" || isOwn {
			continue
		}
		if err := show(m.Mountpoint, root+m.Mountpoint, 0); errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EACCES) {
			continue // another mount is above it, or its user alone may see it
		} else if err != nil {
			return err
		}
	}
	return nil
}

// show binds a folder of the machine, where nobody can write it. recursive is 0, or AT_RECURSIVE for what is mounted in it, too.
func show(folder, at string, recursive uint) error {
	flags := uintptr(unix.MS_BIND)
	if recursive != 0 {
		flags |= unix.MS_REC
	}
	if err := unix.Mount(folder, at, "", flags, ""); err != nil {
		return fmt.Errorf("bind %q: %w", folder, err)
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, at, recursive, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return fmt.Errorf("make %q read-only: %w", folder, err)
	}
	return nil
}

// showFolders is for root of a user namespace. The kernel shows it no folder without the mounts in it that the machine's root has made,
// as something may be covered by them: so there is no overlay of /. But there is one of most folders in it.
func (c *Cage) showFolders(root string) error {
	entries, err := os.ReadDir("/")
	if err != nil {
		return err
	}
	below := filepath.Join(c.folder, "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		return err
	}
	var folders []string
	for _, entry := range entries {
		name := "/" + entry.Name()
		switch {
		case entry.IsDir():
			folders = append(folders, name)
			err = os.Mkdir(below+name, 0o755)
		case entry.Type() == os.ModeSymlink:
			target, _ := os.Readlink(name) // one that cannot be read leads nowhere
			err = os.Symlink(target, below+name)
		}
		if err != nil {
			return err
		}
	}
	if err := c.overlay(below, "upper", root); err != nil {
		return err
	}
	for _, name := range folders {
		if slices.Contains(own, name) {
			continue
		}
		err := c.overlay(name, "uppers"+name, root+name)
		if errors.Is(err, unix.EINVAL) { // other file systems are mounted in it
			err = show(name, root+name, unix.AT_RECURSIVE)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Changed lists the files that programs changed or made outside of Dir and of the home folder, where caches are.
func (c *Cage) Changed() (names []string, err error) {
	home, _ := os.UserHomeDir() // without one, nothing is left out
	for _, upper := range []string{c.Path("upper"), c.Path("uppers")} {
		err = errors.Join(err, filepath.WalkDir(upper, func(path string, entry os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			name := strings.TrimPrefix(path, upper)
			switch {
			case name == home && home != "", entry.Name() == "__pycache__", slices.Contains(own, name):
				return filepath.SkipDir
			case !entry.IsDir():
				names = append(names, name)
			}
			return nil
		}))
	}
	return names, err
}
