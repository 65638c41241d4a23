//go:build linux

package look

import (
	"errors"
	"path/filepath"
	"slices"

	"github.com/moby/moby/api/types/mount"

	"gocker/final/internal/disk"
	"gocker/final/internal/images"
	"gocker/final/internal/store"
	"gocker/final/internal/volumes"
	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/layers"
)

// DiskUsage is what gocker has on disk. Layers that images share are counted once, and each as it is unpacked and as it was
// sent, because both are kept; and a user's copies with other owners: see store.Mapped.
type DiskUsage struct {
	Images     []ImageUsage
	ImageBytes int64 // of all layers of them
	Unused     int64 // of the layers that no container needs

	Containers []ContainerUsage
	Volumes    []VolumeUsage
}

// An ImageUsage is what one image has on disk. The image may have several names.
type ImageUsage struct {
	images.Named
	Shared, Unique int64 // bytes of files: in layers that other images have, too, and in layers of this image only
	Containers     int
}

// A ContainerUsage is what one container has on disk.
type ContainerUsage struct {
	Listed
	Bytes int64
}

// A VolumeUsage is what one volume has on disk.
type VolumeUsage struct {
	volumes.Volume
	Bytes      int64
	Containers int
}

// DiskUsage counts. An error names what it cannot read. It does not count that.
func (look Look) DiskUsage() (u DiskUsage, err error) {
	u.Containers, err = look.containerUsage()
	named, imagesErr := look.Images.List(nil, false)
	err = errors.Join(err, imagesErr)
	of, have, needed := map[string][]layers.Layer{}, map[string]int{}, map[string]bool{}
	containers := map[string]int{}
	for _, c := range u.Containers {
		for _, image := range imagesOf(c.Listed) {
			containers[image]++
		}
	}
	for _, image := range named {
		if of[image.ID] != nil {
			continue
		}
		img, openErr := layers.Open(look.Containers.Dirs, image.ID)
		err = errors.Join(err, openErr)
		of[image.ID] = img.Layers
		for _, layer := range img.Layers {
			if have[layer.ChainID]++; have[layer.ChainID] == 1 {
				u.ImageBytes += store.DiskBytes(look.Containers.Dirs, layer)
				u.Unused += store.DiskBytes(look.Containers.Dirs, layer)
			}
			if containers[image.ID] > 0 && !needed[layer.ChainID] {
				needed[layer.ChainID] = true
				u.Unused -= store.DiskBytes(look.Containers.Dirs, layer)
			}
		}
	}
	for _, image := range named {
		i := ImageUsage{Named: image, Containers: containers[image.ID]}
		for _, layer := range of[image.ID] {
			if have[layer.ChainID] > 1 {
				i.Shared += layer.Files
			} else {
				i.Unique += layer.Files
			}
		}
		u.Images = append(u.Images, i)
	}
	var volumesErr error
	u.Volumes, volumesErr = look.volumeUsage()
	return u, errors.Join(err, volumesErr)
}

// imagesOf are the images that a container needs: the one that it was made of, and those that it has mounted.
func imagesOf(l Listed) []string {
	needs := []string{dirs.Short(l.ImageID)}
	for _, m := range l.Mounts {
		if m.Type == mount.TypeImage {
			needs = append(needs, filepath.Base(m.Source))
		}
	}
	slices.Sort(needs)
	return slices.Compact(needs)
}

func (look Look) containerUsage() (usage []ContainerUsage, err error) {
	listed, err := look.List(ListOptions{All: true, Details: true})
	for _, l := range listed {
		usage = append(usage, ContainerUsage{l, look.Containers.Bytes(l.ID)})
	}
	return usage, err
}

func (look Look) volumeUsage() (usage []VolumeUsage, err error) {
	all, err := look.Volumes.List()
	if err != nil {
		return nil, err
	}
	used, err := look.Containers.VolumeUsers()
	for _, v := range all {
		usage = append(usage, VolumeUsage{v, disk.Bytes(look.Volumes.DataOf(v.Name)), len(used[v.Name])})
	}
	return usage, err
}
