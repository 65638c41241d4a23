//go:build linux

package containers

import (
	"errors"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/final/internal/disk"
	"gocker/final/internal/networks"
	"gocker/final/internal/volumes"
	"gocker/step04-overlay/story"
)

func (store Store) volumes() volumes.Store { return volumes.Store{Dirs: store.Dirs} }

// Networks are those that containers are on.
func (store Store) Networks() networks.Store { return networks.Store{Dirs: store.Dirs} }

// VolumeUsers are the volumes that containers have, whether they run or not: ids by the volume's name. It is nil if that
// cannot be known of all containers: then any volume may be used. An error may also tell of what was known otherwise.
func (store Store) VolumeUsers() (map[string][]string, error) {
	unread := store.bury(func(State) {})
	folders, err := store.everybody()
	if err != nil {
		return nil, err
	}
	used, known := map[string][]string{}, true
	for id, folder := range folders {
		names, err := store.volumesOf(folder)
		if err != nil {
			s, stateErr := readState(folder)
			if errors.Is(err, os.ErrNotExist) && errors.Is(stateErr, os.ErrNotExist) {
				continue // a step's, removed a moment ago, or not ready yet
			}
			names = s.Has // its maker noted the same
			known = known && names != nil
			unread = errors.Join(unread, err, stateErr)
		}
		for _, name := range names {
			used[name] = append(used[name], id)
		}
	}
	if !known {
		return nil, unread
	}
	return used, unread
}

// volumesOf are the volumes that the container in a folder has, by its config.json.
func (store Store) volumesOf(folder string) ([]string, error) {
	spec, err := readSpec(folder)
	if err != nil {
		return nil, err
	}
	return store.volumesIn(spec)
}

// volumesIn are the volumes that a spec mounts; not nil.
func (store Store) volumesIn(spec *specs.Spec) ([]string, error) {
	names := []string{}
	for _, m := range spec.Mounts {
		if m.Type != "bind" {
			continue
		}
		name, ok, err := store.volumes().NameOf(m.Source)
		if err != nil {
			return nil, err
		}
		if ok {
			names = append(names, name)
		}
	}
	return names, nil
}

// UseVolumes mounts the container's volumes, until done is called: see volumes.Store.Use.
func (c *Held) UseVolumes() (done func() error, err error) {
	return c.Store.useVolumes(c.State.Has, c.FS.Tell)
}

// UseVolumes is Held.UseVolumes for a container that somebody else may have.
func (store Store) UseVolumes(s State) (done func() error, err error) {
	return store.useVolumes(s.Has, nil)
}

func (store Store) useVolumes(names []string, tell story.Story) (done func() error, err error) {
	var all []func() error
	done = func() (err error) {
		for _, one := range all {
			err = errors.Join(err, one())
		}
		return err
	}
	for _, name := range names {
		v, err := store.volumes().Get(name)
		if errors.Is(err, volumes.ErrNoVolume) { // removed by hand: what mounts it says so
			continue
		}
		var one func() error
		if err == nil {
			one, err = store.volumes().Use(v, tell, story.After)
		}
		if err != nil {
			return nil, errors.Join(err, done())
		}
		all = append(all, one)
	}
	return done, nil
}

// RemoveVolume removes a volume that no container has.
func (store Store) RemoveVolume(name string) error {
	return store.volumes().Remove(name, store.VolumeUsers)
}

// PruneVolumes removes the volumes that no container has and nobody wants to keep. bytes is what they had. A volume that
// cannot be read is kept.
func (store Store) PruneVolumes(unwanted func(volumes.Volume) bool, removed func(name string)) (bytes int64, err error) {
	all, err := store.volumes().List()
	used, usedErr := store.VolumeUsers()
	if err = errors.Join(err, usedErr); used == nil {
		return 0, err
	}
	for _, v := range all {
		if len(used[v.Name]) > 0 || !unwanted(v) {
			continue
		}
		size := disk.Bytes(store.volumes().DataOf(v.Name))
		switch rmErr := store.RemoveVolume(v.Name); {
		case errors.Is(rmErr, volumes.ErrUsed) || errors.Is(rmErr, volumes.ErrNoVolume):
		case rmErr != nil:
			err = errors.Join(err, rmErr)
		default:
			removed(v.Name)
			bytes += size
		}
	}
	return bytes, err
}

// removeVolumes removes the volumes that were made for a container only.
func (c *Held) removeVolumes() (err error) {
	for _, name := range c.State.Volumes {
		switch rmErr := c.RemoveVolume(name); {
		case rmErr == nil:
			c.FS.Tell.Run(story.After, "a volume of this container only", "rm", "-rf", c.Dirs.Volume(name))
		case !errors.Is(rmErr, volumes.ErrNoVolume) && !errors.Is(rmErr, volumes.ErrUsed):
			err = errors.Join(err, rmErr)
		}
	}
	return err
}
