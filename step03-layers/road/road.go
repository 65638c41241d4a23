//go:build linux

// Package road goes the whole road of the first three steps in one call: registry, package.tar, files, layers. The later
// steps begin with it.
//
//	img, err := road.Get(ctx, d, ref, say) // pulled, if it is not here
package road

import (
	"context"
	"errors"
	"os"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/dirs"
	"gocker/step02-untar/untar"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/leftover"
	"gocker/step03-layers/local"
)

// Get opens the image that ref names, and pulls it where it is not here; say is told of each step on the way.
func Get(ctx context.Context, d dirs.Dirs, ref pull.Reference, say func(format string, args ...any)) (layers.Image, error) {
	image, err := local.Lookup(d, ref)
	if err == nil {
		return layers.Open(d, image)
	}
	if !errors.Is(err, local.ErrNoImage) {
		return layers.Image{}, err
	}
	say("There is no image %s yet: pulling and unpacking it, as step01 to step03 do", ref)
	return Pull(ctx, d, ref)
}

// Pull goes the whole road of the first three steps: registry, package.tar, files, layers.
func Pull(ctx context.Context, d dirs.Dirs, ref pull.Reference) (layers.Image, error) {
	img, err := pull.Image(ctx, ref, pull.HostPlatform())
	if err != nil {
		return layers.Image{}, err
	}
	image, lock, err := pull.Save(d, ref, img, pull.Newer)
	if err != nil {
		return layers.Image{}, err
	}
	defer lock.Close()
	added, err := layers.Image{}, untar.Package(d, image)
	if err == nil {
		added, err = Add(ctx, d, ref, image)
	}
	if err != nil {
		os.RemoveAll(d.Tmp(image))
	}
	return added, err
}

// Add unpacks the layers of {root}/tmp/{image}, whose lock the caller holds, one after the other, and enters the image as
// ref. Layers that other images have too are not unpacked again. The temporary folder is removed.
func Add(ctx context.Context, d dirs.Dirs, ref pull.Reference, image string) (layers.Image, error) {
	if err := leftover.Sweep(d); err != nil {
		return layers.Image{}, err
	}
	source, err := layers.Read(d, image)
	if err != nil {
		return layers.Image{}, err
	}
	in, err := layers.Begin(d, source)
	if err != nil {
		return layers.Image{}, err
	}
	defer in.Discard()
	for i := range in.Layers {
		if err := in.Unpack(ctx, i); err != nil {
			return layers.Image{}, err
		}
	}
	if err := in.Keep(); err != nil {
		return layers.Image{}, err
	}
	if err := layers.Tag(d, in.ID, ref); err != nil {
		return layers.Image{}, err
	}
	return in.Image, dirs.RemoveAll(d.Tmp(image))
}
