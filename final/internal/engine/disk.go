//go:build linux

package engine

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"gocker/final/internal/containers"
	"gocker/final/internal/describe"
	"gocker/final/internal/disk"
	"gocker/final/internal/filter"
	"gocker/final/internal/images"
	"gocker/final/internal/volumes"
	"gocker/step01-pull/shared/advice"
	"gocker/step03-layers/layers"
)

// DiskUsage is what gocker has on disk. Layers that images share are counted once, and each as it is unpacked and as it was
// sent, because both are kept.
type DiskUsage struct {
	Images     []ImageUsage
	ImageBytes int64 // of all layers of them
	Unused     int64 // of the layers that no container needs

	Containers []ContainerUsage
	Volumes    []VolumeUsage
}

// ImageUsage is that of one image, which may have several names.
type ImageUsage struct {
	images.Named
	Shared, Unique int64 // bytes of the files in layers that others have, too, and of those that nobody else has
	Containers     int
}

// ContainerUsage is that of one container.
type ContainerUsage struct {
	Listed
	Bytes int64
}

// VolumeUsage is that of one volume.
type VolumeUsage struct {
	volumes.Volume
	Bytes      int64
	Containers int
}

// DiskUsage counts. An error tells of what cannot be read, and is not counted.
func (e Engine) DiskUsage() (u DiskUsage, err error) {
	u.Containers, err = e.containerUsage()
	named, imagesErr := e.Images().List(nil, false)
	err = errors.Join(err, imagesErr)
	of, have, needed := map[string][]layers.Layer{}, map[string]int{}, map[string]bool{}
	containers := map[string]int{}
	for _, c := range u.Containers {
		containers[c.ImageID]++
	}
	for _, image := range named {
		if of[image.ID] != nil {
			continue
		}
		img, openErr := layers.Open(e.Dirs, image.ID)
		err = errors.Join(err, openErr)
		of[image.ID] = img.Layers
		for _, layer := range img.Layers {
			if have[layer.ChainID]++; have[layer.ChainID] == 1 {
				u.ImageBytes += layer.Files + layer.Size
				u.Unused += layer.Files + layer.Size
			}
			if containers[img.Digest] > 0 && !needed[layer.ChainID] {
				needed[layer.ChainID] = true
				u.Unused -= layer.Files + layer.Size
			}
		}
	}
	for _, image := range named {
		i := ImageUsage{Named: image, Containers: containers[image.Summary.Digest]}
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
	u.Volumes, volumesErr = e.volumeUsage()
	return u, errors.Join(err, volumesErr)
}

func (e Engine) containerUsage() (usage []ContainerUsage, err error) {
	listed, err := e.List(ListOptions{All: true, Details: true})
	for _, l := range listed {
		usage = append(usage, ContainerUsage{l, disk.Bytes(e.Dirs.Container(l.ID) + "/fs/upperdir")})
	}
	return usage, err
}

func (e Engine) volumeUsage() (usage []VolumeUsage, err error) {
	all, err := e.Volumes().List()
	if err != nil {
		return nil, err
	}
	used, err := e.Containers().VolumeUsers()
	for _, v := range all {
		usage = append(usage, VolumeUsage{v, disk.Bytes(e.Volumes().DataOf(v.Name)), len(used[v.Name])})
	}
	return usage, err
}

// CheckPrune tells whether these are filters of a prune: until=TIME and label=KEY[=VALUE].
func CheckPrune(filters []string) error {
	_, _, err := parsePrune(filters)
	return err
}

func parsePrune(filters []string) (until time.Time, labels []string, err error) {
	for _, f := range filters {
		if text, ok := strings.CutPrefix(f, "until="); ok {
			if until, err = filter.Until(text); err != nil {
				return until, nil, err
			}
			continue
		}
		if !strings.HasPrefix(f, "label=") {
			return until, nil, advice.Add(fmt.Errorf("filter %q: %w", f, describe.ErrOption), "filters are until=, label=")
		}
		labels = append(labels, f)
	}
	return until, labels, nil
}

// PruneContainers removes the containers that do not run. Filters are those of CheckPrune. One that cannot be read is
// kept.
func (e Engine) PruneContainers(filters []string, removed func(id string)) (bytes int64, err error) {
	until, labels, err := parsePrune(filters)
	if err != nil {
		return 0, err
	}
	listed, err := e.List(ListOptions{All: true, Filters: labels})
	for _, l := range listed {
		if c := l.Condition(); c != "exited" && c != "created" || !until.IsZero() && !l.Created.Before(until) {
			continue
		}
		size := disk.Bytes(e.Dirs.Container(l.ID) + "/fs/upperdir")
		switch rmErr := e.Rm(l.ID, RmOptions{}); {
		case errors.Is(rmErr, containers.ErrNoContainer) || errors.Is(rmErr, containers.ErrRunning): // somebody was faster
		case rmErr != nil:
			err = errors.Join(err, rmErr)
		default:
			removed(l.ID)
			bytes += size
		}
	}
	return bytes, err
}
