//go:build linux

// Package layers turns the unpacked package.tar into folders that the kernel can lay over each other, and keeps the
// list of all images.
//
//	{root}/layers/{chainID}/fs               the files of one layer
//	{root}/layers/{chainID}/blob             the layer as it was sent: a tar archive, mostly compressed
//	{root}/layers/{chainID}/layer.json       what is known of it: type Layer
//	{root}/layers/{chainID}/devices          names of devices that only root may make, where a user's layer has left out some
//	{root}/images/{image}/{layer}            a link to ../../layers/{chainID}
//	{root}/images/{image}/manifest.json
//	{root}/images/{image}/{config hash}.json
//	{root}/images/{image}/summary.json       what lists of images show: type Summary
//	{root}/images/images.json
//
// A layer is a changeset: what it adds and updates is in it as files, what it deletes as whiteouts. Tar archives
// spell a whiteout as an empty file ".wh.name", overlayfs as a character device 0/0 named "name"; a folder whose
// lower contents are all hidden is ".wh..wh..opq" in the one and the xattr trusted.overlay.opaque in the other.
//
// Whether a whiteout hides anything, and what mode a folder has that the archive left out, depends on the layers
// below. So a layer's folder has the name of its chainID, which stands for the layer and all below it, and not of its
// diffID, which stands for the layer alone. Images whose lowest layers are the same share them.
//
// The blob is kept because nothing else gives it back: unpacked files do not say how they were packed, and an image that
// is pushed on must have the digests that it came with.
//
// Locks: a layer is in use from the moment in which an image links to it, also one that is still on its way in; Add
// holds layers/ shared while it makes these links, Remove holds it alone while it looks for layers that nobody links to.
// images/ is held for the moment in which images.json changes; images/{image} is held shared by a command that
// makes a container of it. The next command removes the remains of a crash: see dirs.Partial.
//
// See https://github.com/opencontainers/image-spec/blob/main/layer.md, config.md (diffID, chainID) there, and
// https://docs.kernel.org/filesystems/overlayfs.html (whiteouts and opaque directories).
package layers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/changeset"
	"gocker/step03-layers/merged"
)

// These errors say what is wrong with an unpacked package, or with an image on disk.
var (
	ErrManifest = errors.New("manifest.json is not one that can be used")
	ErrDigest   = errors.New("the content does not match its digest")
	ErrDamaged  = dirs.ErrDamaged
)

// An Image is one that is here.
type Image struct {
	ID     string // {image}: the first 12 hex digits of Digest
	Digest string // of the config, 64 hex digits
	Config *v1.ConfigFile
	Layers []Layer // the lowest first
}

// A Layer is one changeset of an image, and ChainID stands for it with all below it: "sha256:" and 64 hex digits.
type Layer struct {
	changeset.Changeset
	ChainID string
}

// Open reads an image that is here.
func Open(d dirs.Dirs, image string) (Image, error) {
	manifest, config, raw, err := ReadManifest(d.Image(image), image)
	if err != nil {
		return Image{}, advice.Add(err, "remove the image and pull it again")
	}
	img := Image{ID: image, Digest: sum(raw), Config: config}
	for i, chainID := range ChainIDs(config.RootFS.DiffIDs) {
		layer, err := ReadLayer(d, "sha256:"+chainID)
		if err != nil && !dirs.Lost(err) {
			return Image{}, fmt.Errorf("image %s: read its layer %s: %w", image, manifest.Layers[i], err)
		}
		if err != nil {
			return Image{}, advice.Add(fmt.Errorf("image %s: %w: its layer %s: %w", image, ErrDamaged, manifest.Layers[i], err),
				"a layer of this image is gone; pull it again")
		}
		img.Layers = append(img.Layers, layer)
	}
	return img, nil
}

// Stack returns the folders of the image's layers, the lowest first.
func (img Image) Stack(d dirs.Dirs) merged.Stack {
	stack := make(merged.Stack, len(img.Layers))
	for i, layer := range img.Layers {
		stack[i] = Files(d, layer.ChainID)
	}
	return stack
}

// ReadLayer reads what is known of a layer that is here, and sees that it has its files.
func ReadLayer(d dirs.Dirs, chainID string) (layer Layer, err error) {
	fs := Files(d, chainID)
	if err = dirs.ReadJSON(filepath.Join(filepath.Dir(fs), "layer.json"), &layer); err == nil {
		_, err = os.Stat(fs)
	}
	return layer, err
}

// Files is the folder of a layer's files.
func Files(d dirs.Dirs, chainID string) string {
	return filepath.Join(d.Layer(strings.TrimPrefix(chainID, "sha256:")), "fs")
}
