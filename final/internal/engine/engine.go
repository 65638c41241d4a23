//go:build linux

// Package engine is images and containers as docker's users think of them.
package engine

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gocker/step01-pull/dirs"
	"gocker/step01-pull/pull"
	"gocker/step03-layers/layers"
)

// An Engine works on the images and containers of one pair of folders.
type Engine struct{ Dirs dirs.Dirs }

// A NamedImage is a row of "gocker images".
type NamedImage struct {
	Repository, Tag string
	Digest          string // for an image that was pulled by digest; then Tag is "<none>"
	ID              string
	Created         time.Time
	Size            int64 // bytes of all its files
}

// Images lists the images that are here, the newest first. One whose name has moved on to another image has none.
func (e Engine) Images() ([]NamedImage, error) {
	names, err := layers.List(e.Dirs)
	if err != nil {
		return nil, err
	}
	var images []NamedImage
	named := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		for _, tag := range slices.Sorted(maps.Keys(names[name])) {
			id := names[name][tag]
			named[id] = true
			row := NamedImage{Repository: name, Tag: tag, ID: id}
			if strings.Contains(tag, ":") {
				row.Tag, row.Digest = none, tag
			}
			images = append(images, row)
		}
	}
	folders, err := dirs.Glob(e.Dirs.Images(), "*")
	if err != nil {
		return nil, err
	}
	for _, folder := range folders {
		if id := filepath.Base(folder); pull.IsImage(id) && !named[id] {
			images = append(images, NamedImage{Repository: none, Tag: none, ID: id})
		}
	}
	for i, row := range images {
		img, err := layers.Open(e.Dirs, row.ID)
		if err != nil {
			return nil, err
		}
		images[i].Created = img.Config.Created.Time
		for _, l := range img.Layers {
			images[i].Size += l.Files
		}
	}
	slices.SortStableFunc(images, func(a, b NamedImage) int { return b.Created.Compare(a.Created) })
	return images, nil
}

// none is what docker shows where a name is missing.
const none = "<none>"

// Rmi removes a name, and with its last name the image.
func (e Engine) Rmi(ref pull.Reference) (untagged, deleted []string, err error) {
	return layers.Remove(e.Dirs, ref)
}
