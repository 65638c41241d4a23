//go:build linux

package containers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/describe"
	"gocker/final/internal/idmap"
	layerstore "gocker/final/internal/store"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/merged"
	"gocker/step03-layers/usernamespace"
	"gocker/step04-overlay/story"
)

// writeNewSpec writes config.json of a new container. If it is to have ids of the host that no other has, they are chosen before:
// while the folder of all containers is locked, nobody else chooses.
func (c *Held) writeNewSpec(users describe.Users) error {
	if !users.Own() {
		return c.WriteSpec(c.FS.ID, c.Spec)
	}
	all := filepath.Dir(c.FS.Dir)
	lock, err := dirs.LockExisting(all)
	if err != nil {
		return err
	}
	defer lock.Close()
	var used []specs.LinuxIDMapping
	if users.Auto() {
		if used, err = mapped(all); err != nil {
			return err
		}
	}
	if c.Spec.Linux.UIDMappings, c.Spec.Linux.GIDMappings, err = users.Maps(used); err != nil {
		return err
	}
	return c.WriteSpec(c.FS.ID, c.Spec)
}

// mapped are the ids that the containers in a folder have, those that do not run, too: what they leave in a folder of the host is
// theirs.
func mapped(folder string) (used []specs.LinuxIDMapping, err error) {
	files, err := dirs.Glob(folder, "*/"+specName)
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		var spec struct {
			Linux struct{ UIDMappings, GIDMappings []specs.LinuxIDMapping }
		}
		if err := dirs.ReadJSON(file, &spec); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		used = append(append(used, spec.Linux.UIDMappings...), spec.Linux.GIDMappings...)
	}
	return used, nil
}

// mapLink is a link in the folder of a user's container with users of its own: it leads to what store.MapName says.
const mapLink = "map"

// mapLayers has the container of a user who is not root, if it is to have users of its own, see its image with their numbers.
func (c *Held) mapLayers(img layers.Image, users describe.Users) (err error) {
	if !users.Own() || !usernamespace.Inside() {
		return nil
	}
	linux := &specs.Linux{}
	if linux.UIDMappings, linux.GIDMappings, err = users.Maps(nil); err != nil {
		return err
	}
	if c.FS.Lower, err = layerstore.Mapped(c.Dirs, img, linux); err != nil {
		return err
	}
	c.FS.Tell.Sh(story.Host, "each layer was copied once with the owners that its files have by the user namespace", "# the copies are "+story.Quote(c.FS.Lower...))
	if err := os.Symlink(layerstore.MapName(linux), filepath.Join(c.FS.Dir, mapLink)); err != nil {
		return err
	}
	return giveAway(c.FS.Upperdir(), linux) // it was made like the image's topmost layer
}

// stack is the folders of an image's layers, as the container in a folder sees them.
func (store Store) stack(img layers.Image, folder string) merged.Stack {
	if name, err := os.Readlink(filepath.Join(folder, mapLink)); err == nil {
		return layerstore.MappedStack(store.Dirs, img, name)
	}
	return img.Stack(store.Dirs)
}

// giveFiles gives files that gocker has made for the container to its root.
func (c *Held) giveFiles() error {
	if len(c.Spec.Linux.UIDMappings) == 0 || !usernamespace.Inside() {
		return nil
	}
	for _, m := range c.Spec.Mounts {
		if m.Type == "bind" && filepath.Dir(m.Source) == c.FS.Dir {
			if err := giveAway(m.Source, c.Spec.Linux); err != nil {
				return err
			}
		}
	}
	return nil
}

// giveAway gives a file, whose owner's number is the container's, to whom that is outside.
func giveAway(file string, linux *specs.Linux) error {
	var stat unix.Stat_t
	if err := unix.Lstat(file, &stat); err != nil {
		return fmt.Errorf("look at %q: %w", file, err)
	}
	uid, err := idmap.Host(linux.UIDMappings, stat.Uid)
	gid, groupErr := idmap.Host(linux.GIDMappings, stat.Gid)
	if err := errors.Join(err, groupErr); err != nil {
		return err
	}
	return os.Lchown(file, int(uid), int(gid))
}

// MountForUsers mounts the container's files once more, so that they have the owners that its user namespace says.
func (c *Held) MountForUsers() error {
	if len(c.Spec.Linux.UIDMappings) == 0 || usernamespace.Inside() { // a user's is mounted so already: see mapLayers
		return nil
	}
	if err := c.findLayers(); err != nil {
		return err
	}
	if err := c.FS.Unmount(); err != nil {
		return err
	}
	return idmap.Make(c.Spec.Linux.UIDMappings, c.Spec.Linux.GIDMappings, 0, func(_, user *os.File) error {
		c.FS.Over = func(folders []string) error {
			for _, folder := range folders {
				c.FS.Tell.Run(story.Host, "what lies there, with the owners that it has by the user namespace", "mount", "--bind", "-o", idmap.Option(c.Spec.Linux), folder, folder)
			}
			return idmap.Over(folders, c.Spec.Linux, user)
		}
		defer func() { c.FS.Over = nil }()
		err := c.FS.Mount()
		if errors.Is(err, unix.EINVAL) {
			err = advice.Add(err, "a user namespace needs Linux 5.19: overlayfs did not take idmapped layers before; say --userns host")
		}
		return err
	})
}
