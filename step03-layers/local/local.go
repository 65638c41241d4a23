//go:build linux

// Package local has to do with the images that are here: it finds one by its name, and removes it. Package road brings one in.
//
//	image, err := local.Lookup(d, ref)
//	untagged, deleted, err := local.Remove(d, ref, false)
//
// Names are in images.json, see package layers.
package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/layers"
)

// These errors say what is wrong with the name of an image that should be here.
var (
	ErrNoImage = errors.New("no such image here")
	ErrInUse   = errors.New("in use")
)

// Lookup returns the {image} that ref names here, or ErrNoImage. A name that no image has may be the beginning of a
// config's digest, if no other begins so: "2e2d", "2e2dc2d51ba6", "sha256:2e2d…".
func Lookup(d dirs.Dirs, ref pull.Reference) (string, error) {
	names, err := layers.List(d)
	if err != nil {
		return "", err
	}
	if image, ok := names[ref.Name][ref.Tag]; ok {
		return image, nil
	}
	ids, err := beginWith(d, ref)
	if err != nil {
		return "", err
	}
	switch len(ids) {
	case 1:
		return ids[0], nil
	case 0:
		return "", advice.Add(fmt.Errorf("%w: %q", ErrNoImage, ref), "to fetch it: gocker pull %s", ref)
	}
	return "", advice.Add(fmt.Errorf("%w: the ids of %d begin with %q", ErrNoImage, len(ids), ref.Name), "give more digits")
}

// beginWith lists the images that ref may be the beginning of the id of.
func beginWith(d dirs.Dirs, ref pull.Reference) (ids []string, err error) {
	digits := ref.Name
	if ref.Name == "sha256" {
		digits = ref.Tag
	} else if ref.Tag != "latest" {
		return nil, nil
	}
	if strings.Trim(digits, "0123456789abcdef") != "" {
		return nil, nil // it has something else in it
	}
	if info, err := os.Stat(d.Image(digits)); dirs.IsImage(digits) && err == nil && info.IsDir() {
		return []string{digits}, nil // whatever is in it
	}
	// The whole digest is the name of the config.
	configs, err := dirs.Glob(d.Images(), dirs.Short(digits)+"*/"+digits+"*.json")
	for _, config := range configs {
		if id := filepath.Base(filepath.Dir(config)); dirs.IsImage(id) && strings.HasPrefix(filepath.Base(config), id) {
			ids = append(ids, id)
		}
	}
	return slices.Compact(ids), err
}
