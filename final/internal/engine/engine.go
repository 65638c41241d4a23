//go:build linux

// Package engine is images and containers as docker's users think of them.
package engine

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"gocker/step01-pull/dirs"
	"gocker/step01-pull/pull"
	"gocker/step03-layers/layers"
)

// An Engine works on the images and containers of one pair of folders.
type Engine struct{ Dirs dirs.Dirs }

// Pull fetches an image for platform (nil: this machine's), also if it is here.
func (e Engine) Pull(ctx context.Context, ref pull.Reference, platform *v1.Platform) (layers.Image, error) {
	return layers.Pull(ctx, e.Dirs, ref, platform)
}

// A NamedImage is a row of "gocker images".
type NamedImage struct {
	Repository, Tag string
	Digest          string // for an image that was pulled by digest; then Tag is "<none>"
	ID              string
	Created         time.Time
	Size            int64 // bytes of all its files
}

// Images lists the images that are here, the newest first.
func (e Engine) Images() ([]NamedImage, error) {
	names, err := layers.List(e.Dirs)
	if err != nil {
		return nil, err
	}
	var images []NamedImage
	for _, name := range slices.Sorted(maps.Keys(names)) {
		for _, tag := range slices.Sorted(maps.Keys(names[name])) {
			img, err := layers.Open(e.Dirs, names[name][tag])
			if err != nil {
				return nil, err
			}
			row := NamedImage{Repository: name, Tag: tag, ID: img.ID, Created: img.Config.Created.Time}
			if strings.Contains(tag, ":") {
				row.Tag, row.Digest = "<none>", tag
			}
			for _, l := range img.Layers {
				row.Size += l.Files
			}
			images = append(images, row)
		}
	}
	slices.SortStableFunc(images, func(a, b NamedImage) int { return b.Created.Compare(a.Created) })
	return images, nil
}

// Rmi removes a name, and with its last name the image.
func (e Engine) Rmi(ref pull.Reference) (untagged, deleted []string, err error) {
	return layers.Remove(e.Dirs, ref)
}
