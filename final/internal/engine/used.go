//go:build linux

package engine

import (
	"errors"
	"os"

	"gocker/final/internal/disk"
	"gocker/final/internal/volumes"
	"gocker/step04-overlay/story"
)

// VolumeUsers are the volumes that containers have, whether they run or not: ids by the volume's name.
func (e Engine) VolumeUsers() (map[string][]string, error) {
	states, err := e.Ps()
	if err != nil {
		return nil, err
	}
	used := map[string][]string{}
	for _, s := range states {
		spec, err := e.readSpec(s.ID)
		if errors.Is(err, os.ErrNotExist) {
			continue // removed a moment ago
		}
		if err != nil {
			return nil, err
		}
		for _, m := range spec.Mounts {
			name, ok, err := e.Volumes().NameOf(m.Source)
			if err != nil {
				return nil, err
			}
			if ok {
				used[name] = append(used[name], s.ID)
			}
		}
	}
	return used, nil
}

// RemoveVolume removes a volume that no container has.
func (e Engine) RemoveVolume(name string) error { return e.Volumes().Remove(name, e.VolumeUsers) }

// PruneVolumes removes the volumes that no container has and nobody wants to keep. bytes is what they had.
func (e Engine) PruneVolumes(unwanted func(volumes.Volume) bool, removed func(name string)) (bytes int64, err error) {
	all, err := e.Volumes().List()
	if err != nil {
		return 0, err
	}
	used, err := e.VolumeUsers()
	if err != nil {
		return 0, err
	}
	for _, v := range all {
		if len(used[v.Name]) > 0 || !unwanted(v) {
			continue
		}
		size := disk.Bytes(e.Volumes().DataOf(v.Name))
		switch rmErr := e.RemoveVolume(v.Name); {
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
func (c *container) removeVolumes() (err error) {
	for _, name := range c.state.Volumes {
		switch rmErr := c.RemoveVolume(name); {
		case rmErr == nil:
			c.Tell.Run(story.After, "a volume of this container only", "rm", "-rf", c.Dirs.Volume(name))
		case !errors.Is(rmErr, volumes.ErrNoVolume) && !errors.Is(rmErr, volumes.ErrUsed):
			err = errors.Join(err, rmErr)
		}
	}
	return err
}
