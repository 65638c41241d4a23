//go:build linux

package look

import (
	"errors"
	"slices"

	"gocker/final/internal/images"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/local"
)

// An Image is an image with all its names: a branch of "gocker images --tree".
type Image struct {
	images.Named
	Names    []string
	Platform string
	Disk     int64 // bytes of its layers, as they are unpacked and as they were sent
	Content  int64 // of the latter only
	Used     bool  // a container needs it
}

// ImageTree lists images by filters, as images.Store.List has them. An error names those that cannot be read.
func (look Look) ImageTree(filters []string) (all []Image, err error) {
	named, err := look.Images.List(filters, false)
	for _, n := range named {
		name := n.Repository + ":" + n.Tag
		if i := slices.IndexFunc(all, func(other Image) bool { return other.ID == n.ID }); i >= 0 {
			all[i].Names = append(all[i].Names, name)
			continue
		}
		img, openErr := layers.Open(look.Containers.Dirs, n.ID)
		users, usersErr := local.Users(look.Containers.Dirs, n.ID)
		if openErr = errors.Join(openErr, usersErr); openErr != nil {
			err = errors.Join(err, openErr)
			continue
		}
		image := Image{Named: n, Platform: img.Config.Platform().String(), Used: len(users) > 0}
		if name != "<none>:<none>" {
			image.Names = []string{name}
		}
		for _, layer := range img.Layers {
			image.Content += layer.Size
			image.Disk += layer.Size + layer.Files
		}
		all = append(all, image)
	}
	return all, err
}
