// Package pull turns the name of an image into one file: package.tar.
//
//	ref, err := pull.ParseReference("alpine:latest")
//	img, err := pull.Image(ctx, ref, nil)      // asks the registry for the manifest
//	image, lock, err := pull.Save(d, ref, img) // fetches config and layers, writes {root}/tmp/{image}/package.tar
//
// {image} is the first 12 hex digits of the config's digest. The digest covers the config, and the config names the
// digest of every layer's content: whoever knows it knows the whole image. go-containerregistry compares every blob
// with the digest and the size that the manifest promised.
//
// It does not look inside the layers: that is the next step's.
//
// See https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pull and
// https://github.com/opencontainers/image-spec/blob/main/manifest.md.
package pull

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/crane"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"gocker/step01-pull/sample"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
)

// What can be wrong with a name that is well formed.
var (
	ErrNotFound     = errors.New("no such image")
	ErrUnauthorized = errors.New("the registry wants credentials, or has no such image")
	ErrUnreachable  = errors.New("cannot reach the registry")
	ErrPlatform     = errors.New("the image is not made for this platform")
)

// HostPlatform is what this machine can run. Containers are Linux's, so the system is not asked for.
func HostPlatform() *v1.Platform {
	return &v1.Platform{OS: "linux", Architecture: runtime.GOARCH}
}

// RunsOn tells whether an image is for the platform. What its config leaves open fits.
func RunsOn(config *v1.ConfigFile, platform *v1.Platform) bool {
	fits := func(got, want string) bool { return got == "" || got == want }
	return fits(config.OS, platform.OS) && fits(config.Architecture, platform.Architecture)
}

// Image asks the reference's registry for the manifest, and for the one of platform (nil: this machine's) where the
// name stands for several. Layers are fetched when they are read. The sample image's registry runs inside this
// process until ctx is done. Its errors are ErrNotFound, ErrUnauthorized, ErrUnreachable, ErrPlatform, or the
// registry's own.
func Image(ctx context.Context, ref Reference, platform *v1.Platform) (v1.Image, error) {
	if platform == nil {
		platform = HostPlatform()
	}
	from := ref.Full()
	if ref.IsSample() {
		registry, err := sample.Serve(ctx)
		if err != nil {
			return nil, err
		}
		from = registry + "/" + Sample
	}
	img, err := crane.Pull(from, crane.WithContext(ctx), crane.WithPlatform(platform), crane.WithUserAgent("gocker"))
	if err != nil {
		if strings.HasPrefix(err.Error(), "no child with platform") { // the library has no value for it
			return nil, advice.Add(fmt.Errorf("pull %q: %w: %s", ref, ErrPlatform, platform),
				"--platform is one of: %s", strings.Join(platforms(ctx, ref), ", "))
		}
		return nil, Explain(ctx, ref, err)
	}
	// A name that stands for one image only is not asked for a platform, so its config has to say.
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("pull %q: read config: %w", ref, err)
	}
	if !RunsOn(config, platform) {
		return nil, advice.Add(fmt.Errorf("pull %q: %w: it is for %s, wanted %s", ref, ErrPlatform, config.Platform(), platform),
			"to have it all the same: --platform %s", config.Platform())
	}
	return img, nil
}

// Explain turns what the library says of a request into one of this package's errors.
func Explain(ctx context.Context, ref Reference, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("pull %q: %w", ref, context.Cause(ctx))
	}
	var status *transport.Error
	var network net.Error
	switch {
	case errors.As(err, &status) && status.StatusCode == http.StatusNotFound:
		return advice.Add(fmt.Errorf("pull %q: %w at %s: %w", ref, ErrNotFound, ref.Registry(), err),
			"check the spelling of name and tag")
	case errors.As(err, &status) && (status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden):
		return advice.Add(fmt.Errorf("pull %q: %w: %w", ref, ErrUnauthorized, err),
			"check the spelling, or log in: credentials are read from ~/.docker/config.json (docker login %s)", ref.Registry())
	case errors.As(err, &network):
		return advice.Add(fmt.Errorf("pull %q: %w %s: %w", ref, ErrUnreachable, ref.Registry(), err),
			"without a network there is the image %q", Sample)
	}
	return fmt.Errorf("pull %q: %w", ref, err)
}

// platforms lists what an index offers; it is for a message, so it has no errors.
func platforms(ctx context.Context, ref Reference) (names []string) {
	var index v1.IndexManifest
	if raw, err := crane.Manifest(ref.Full(), crane.WithContext(ctx)); err == nil {
		_ = json.Unmarshal(raw, &index)
	}
	for _, m := range index.Manifests {
		if m.Platform != nil && m.Platform.OS != "unknown" {
			names = append(names, m.Platform.String())
		}
	}
	return names
}

// Save fetches config and layers and writes {root}/tmp/{image}/package.tar. A reader of that name finds a whole file
// or none: it is written under another name, synced and renamed. What fails leaves nothing behind.
// The caller closes lock when it is done with tmp/{image}.
func Save(d dirs.Dirs, ref Reference, img v1.Image) (image string, lock *os.File, err error) {
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

	tmp := filepath.Join(partial.Path, "package.tar")
	if err := crane.SaveLegacy(img, ref.Full(), tmp); err != nil {
		return "", nil, fmt.Errorf("save %q to %q: %w", ref, d.PackageTar(image), err)
	}
	// SaveLegacy does not look at what closing the file says; a full disk may be told only now.
	if err := syncFile(tmp); err != nil {
		return "", nil, fmt.Errorf("save %q to %q: %w", ref, d.PackageTar(image), err)
	}
	// For a reference with a digest SaveLegacy notes the tag "i-was-a-digest". What was asked for is kept beside it.
	if err := os.WriteFile(filepath.Join(partial.Path, "reference"), []byte(ref.String()+"\n"), 0o644); err != nil {
		return "", nil, err
	}
	lock, err = dirs.Lock(d.Tmp(image))
	if err != nil {
		return "", nil, err
	}
	for _, file := range []string{"package.tar", "reference"} {
		if err := os.Rename(filepath.Join(partial.Path, file), filepath.Join(d.Tmp(image), file)); err != nil {
			lock.Close()
			return "", nil, err
		}
	}
	return image, lock, nil
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// Find returns the {image} that ref was saved as and locks its folder, until the caller closes lock; where tmp has
// none, image is "".
func Find(d dirs.Dirs, ref Reference) (image string, lock *os.File, err error) {
	files, err := dirs.Glob(d.AllTmp(), "*/reference")
	if err != nil {
		return "", nil, err
	}
	for _, file := range files {
		image := filepath.Base(filepath.Dir(file))
		if !IsImage(image) || !isSavedAs(file, ref) {
			continue
		}
		lock, err := dirs.Lock(d.Tmp(image))
		if err != nil {
			return "", nil, err
		}
		// Whoever held the lock before may have unpacked the image and removed the folder, or pulled another name to it.
		if isSavedAs(file, ref) {
			return image, lock, nil
		}
		os.Remove(d.Tmp(image)) // where Lock has made it anew it is empty, else it stays
		lock.Close()
	}
	return "", nil, nil
}

func isSavedAs(file string, ref Reference) bool {
	saved, err := os.ReadFile(file)
	return err == nil && strings.TrimSpace(string(saved)) == ref.String()
}

// FindOrSave is Find, and where there is nothing to find, Image and Save; say is told.
func FindOrSave(ctx context.Context, d dirs.Dirs, ref Reference, say func(format string, args ...any)) (string, *os.File, error) {
	image, lock, err := Find(d, ref)
	if err != nil || image != "" {
		return image, lock, err
	}
	say("There is no package.tar of %s yet: pulling it, as step01-pull does", ref)
	img, err := Image(ctx, ref, nil)
	if err != nil {
		return "", nil, err
	}
	return Save(d, ref, img)
}
