// Package pull turns the name of an image into one file: package.tar.
//
//	ref, err := pull.ParseReference("alpine:latest")
//	img, err := pull.Image(ctx, ref, pull.HostPlatform())   // asks the registry for the manifest
//	image, lock, err := pull.Save(d, ref, img, pull.Newer)  // fetches config and layers, writes {root}/tmp/{image}/package.tar
//
// {image} is the first 12 hex digits of the config's digest. The digest covers the config, and the config names the
// digest of every layer's content: it stands for the whole image. go-containerregistry compares every blob
// with the digest and the size that the manifest promised.
//
// It does not look inside the layers: that is the next step's.
//
// See https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pull and
// https://github.com/opencontainers/image-spec/blob/main/manifest.md.
package pull

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/google/go-containerregistry/pkg/crane"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"gocker/step01-pull/sample"
	"gocker/step01-pull/shared/dirs"
)

// HostPlatform is what this machine can run. Containers are Linux's, so the system is not asked for.
func HostPlatform() *v1.Platform {
	return &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
}

// runsOn tells whether an image is for the platform. If its config leaves something open, any platform fits.
func runsOn(config *v1.ConfigFile, platform *v1.Platform) bool {
	gos := map[string]string{"x86_64": "amd64", "aarch64": "arm64"} // names that Go and registries have, not the kernel
	fits := func(got, want string) bool { return got == "" || got == want || gos[got] == want }
	return fits(config.OS, platform.OS) && fits(config.Architecture, platform.Architecture)
}

// Image asks the reference's registry, or its mirror, for the manifest, and for the one of platform where the name stands
// for several. Layers are fetched when they are read. The sample image's registry runs inside this
// process until ctx is done. Its errors are ErrNotFound, ErrUnauthorized, ErrUnreachable, ErrPlatform, or the
// registry's own.
func Image(ctx context.Context, ref Reference, platform *v1.Platform) (v1.Image, error) {
	from := ref.from()
	if ref.IsSample() {
		registry, err := sample.Serve(ctx)
		if err != nil {
			return nil, err
		}
		from = registry + "/" + Sample
	}
	img, err := crane.Pull(from, crane.WithContext(ctx), crane.WithPlatform(platform), crane.WithUserAgent("gocker"))
	if err != nil {
		return nil, Explain(ctx, ref, err)
	}
	// A name that stands for one image only is not asked for a platform, so its config has to say.
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("pull %q: read config: %w", ref, err)
	}
	if !runsOn(config, platform) {
		return nil, otherPlatform(ref, config.Platform(), platform)
	}
	return img, nil
}

// An Archive writes an image with its reference into one file.
type Archive func(img v1.Image, reference, file string) error

// Newer is the kind of archive that names each layer by its digest: 59bf1c3509f3….tar.gz.
func Newer(img v1.Image, reference, file string) error { return crane.SaveLegacy(img, reference, file) }

// Older is the kind of before 2021, with a folder for each layer that is named by its v1 ID: 47d7af55c64c…/layer.tar.
func Older(img v1.Image, reference, file string) error {
	return crane.MultiSaveLegacy(map[string]v1.Image{reference: img}, file)
}

// Save fetches config and layers and writes {root}/tmp/{image}/package.tar. A reader of that name finds a whole file
// or none: it is written under another name, synced and renamed. A Save that fails leaves nothing behind.
// The caller closes lock when it is done with tmp/{image}.
func Save(d dirs.Dirs, ref Reference, img v1.Image, archive Archive) (image string, lock *os.File, err error) {
	config, err := img.ConfigName()
	if err != nil {
		return "", nil, fmt.Errorf("pull %q: %w", ref, err)
	}
	image = dirs.Short(config.Hex)
	partial, err := dirs.NewPartial(d.AllTmp())
	if err != nil {
		return "", nil, err
	}
	defer partial.Discard()
	if err := write(partial.Path, ref, img, archive); err != nil {
		return "", nil, fmt.Errorf("save %q to %q: %w", ref, d.PackageTar(image), err)
	}
	lock, err = dirs.Lock(d.Tmp(image))
	if err != nil {
		return "", nil, err
	}
	if err := replace(d.Tmp(image), partial.Path, "package.tar", "reference"); err != nil {
		lock.Close()
		return "", nil, err
	}
	return image, lock, nil
}

// write makes package.tar and reference in a folder.
func write(folder string, ref Reference, img v1.Image, archive Archive) error {
	file := filepath.Join(folder, "package.tar")
	if err := archive(img, ref.Full(), file); err != nil {
		return err
	}
	// crane does not look at what closing the file says; a full disk may be told only now.
	if err := syncFile(file); err != nil {
		return err
	}
	// For a reference with a digest crane notes the tag "i-was-a-digest". The name that the user typed is kept beside it.
	return os.WriteFile(filepath.Join(folder, "reference"), []byte(ref.String()+"\n"), 0o644)
}

// replace gives the folder the files of another one, and removes what was unpacked of an older package.tar.
func replace(folder, from string, files ...string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !slices.Contains(files, e.Name()) {
			if err := os.RemoveAll(filepath.Join(folder, e.Name())); err != nil {
				return err
			}
		}
	}
	for _, file := range files {
		if err := os.Rename(filepath.Join(from, file), filepath.Join(folder, file)); err != nil {
			return err
		}
	}
	return nil
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
