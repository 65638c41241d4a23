//go:build linux

package containers

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/describe"
	"gocker/final/internal/idmap"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
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

// MountForUsers mounts the container's files once more, so that they have the owners that its user namespace says.
func (c *Held) MountForUsers() error {
	if len(c.Spec.Linux.UIDMappings) == 0 {
		return nil
	}
	if err := c.findLayers(); err != nil {
		return err
	}
	if err := c.FS.Unmount(); err != nil {
		return err
	}
	return idmap.Make(c.Spec.Linux.UIDMappings, c.Spec.Linux.GIDMappings, 0, func(_, user *os.File) error {
		c.FS.Over = func(folders []string) error { return idmap.Over(folders, c.Spec.Linux, user) }
		defer func() { c.FS.Over = nil }()
		err := c.FS.Mount()
		if errors.Is(err, unix.EINVAL) {
			err = advice.Add(err, "a user namespace needs Linux 5.19: overlayfs did not take idmapped layers before; say --userns host")
		}
		return err
	})
}
