//go:build linux

package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/renameio/v2"

	"gocker/final/internal/platform"
	"gocker/final/internal/registry"
	"gocker/final/internal/store"
	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/dirs"
	"gocker/step02-untar/budget"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/leftover"
	"gocker/step03-layers/local"
)

// PullOptions are the flags of "gocker pull".
type PullOptions struct {
	registry.Options
	Platform *v1.Platform  // nil: this machine's
	Limits   budget.Limits // of the unpacked image

	// Several goroutines tell Progress how many bytes of a layer are here, or Kept if all of them were. It may be nil.
	Progress func(layer v1.Descriptor, done int64)
}

// Kept is what Progress is told of a layer that was here already.
const Kept = -1

// A Pulled image is what came of a pull.
type Pulled struct {
	layers.Image
	Origin Origin
	New    bool // it was not here, or the name stood for another
}

// An Origin is a name that a registry knows an image by: an element of images/{image}/origins.json. Manifest and
// index lie beside it, {digest}.json, as the registry sent them. An archive that was loaded has a manifest, but no name.
type Origin struct {
	Reference string // as pull.Reference spells it
	Digest    string // "sha256:…": what the name stood for there, the index's if it was one
	Manifest  string // "sha256:…": the manifest's
	Platform  string // what was chosen of the index
}

// Pull fetches an image. If the registry's name still stands for the image that is here, that takes one request. Pull asks
// for no layer that is here. If a broken pull has left a part of a layer in tmp/{image}, it continues from there.
func (s Store) Pull(ctx context.Context, ref pull.Reference, opts PullOptions) (Pulled, error) {
	img, err := s.pull(ctx, ref, opts)
	if err == nil {
		s.Note("pull", img.Image, ref.String(), ref.Name)
	}
	return img, err
}

// Get opens an image, and pulls it where it is not here for that platform, "linux/arm64", if one is named. when is "always",
// "never", or else only then.
func (s Store) Get(ctx context.Context, ref pull.Reference, when, forPlatform string, say func(format string, args ...any)) (layers.Image, error) {
	var wanted *v1.Platform
	if forPlatform != "" {
		p, err := platform.Parse(forPlatform)
		if err != nil {
			return layers.Image{}, err
		}
		wanted = &p
	}
	if when == "always" {
		return s.fetch(ctx, ref, wanted, say)
	}
	image, err := s.Lookup(ref)
	if err == nil {
		img, err := layers.Open(s.Dirs, image)
		if err != nil || wanted == nil || platform.Is(img.Config, *wanted) {
			return img, err
		}
		if when == "never" {
			return img, fmt.Errorf("image %s is for %s, not for %s", ref, img.Config.Platform(), wanted)
		}
		say("Image %s is here for %s: pulling it for %s", ref, img.Config.Platform(), wanted)
	} else if !errors.Is(err, local.ErrNoImage) || when == "never" {
		return layers.Image{}, err
	} else {
		say("Unable to find image %s here: pulling it", ref)
	}
	return s.fetch(ctx, ref, wanted, say)
}

// fetch pulls an image for Get.
func (s Store) fetch(ctx context.Context, ref pull.Reference, wanted *v1.Platform, say func(format string, args ...any)) (layers.Image, error) {
	opts := PullOptions{Platform: wanted}
	end := func(Pulled, error) {}
	if s.Watch != nil {
		opts.Progress, end = s.Watch(ref)
	}
	img, err := s.Pull(ctx, ref, opts)
	end(img, err)
	for _, line := range LeftOut(img.Image) {
		say("%s", line)
	}
	return img.Image, err
}

func (s Store) pull(ctx context.Context, ref pull.Reference, opts PullOptions) (Pulled, error) {
	if opts.Platform == nil {
		opts.Platform = new(platform.Host())
	}
	if opts.Progress == nil {
		opts.Progress = func(v1.Descriptor, int64) {}
	}
	if err := leftover.Sweep(s.Dirs); err != nil {
		return Pulled{}, err
	}
	if img, ok := s.unchanged(ctx, ref, opts); ok {
		return img, nil
	}
	found, err := opts.Find(ctx, ref, opts.Platform)
	if err != nil {
		return Pulled{}, err
	}
	id := dirs.Short(found.ConfigDigest.Hex)
	tmp := s.Dirs.Tmp(id)
	lock, err := dirs.Lock(tmp)
	if err != nil {
		return Pulled{}, err
	}
	defer lock.Close()
	before, _ := local.Lookup(s.Dirs, ref) // no image is another one, too
	origin := Origin{ref.String(), found.Digest.String(), found.ManifestDigest.String(), opts.Platform.String()}
	img, err := s.add(ctx, ref, found, origin, tmp, opts)
	if errors.Is(err, layers.ErrDigest) && found.Discard() {
		img, err = s.add(ctx, ref, found, origin, tmp, opts) // what an older try had left was wrong
	}
	if err == nil {
		err = s.addOrigin(id, origin, documents(found))
	}
	if err != nil && (errors.Is(err, registry.ErrBroken) || ctx.Err() != nil) {
		return Pulled{}, fmt.Errorf("pull %q: %w", ref, err)
	}
	if removeErr := dirs.RemoveAll(tmp); err == nil {
		err = removeErr
	}
	if err != nil {
		return Pulled{}, fmt.Errorf("pull %q: %w", ref, err)
	}
	return Pulled{img, origin, before != id}, nil
}

// unchanged returns the image that is here, if the registry still has it under this name.
func (s Store) unchanged(ctx context.Context, ref pull.Reference, opts PullOptions) (none Pulled, ok bool) {
	id, err := local.Lookup(s.Dirs, ref)
	if err != nil {
		return none, false
	}
	origins, err := s.origins(id)
	if err != nil {
		return none, false
	}
	i := slices.IndexFunc(origins, func(o Origin) bool {
		return o.Reference == ref.String() && o.Platform == opts.Platform.String()
	})
	if i < 0 {
		return none, false
	}
	if digest, err := opts.Digest(ctx, ref); err != nil || digest.String() != origins[i].Digest {
		return none, false
	}
	img, err := layers.Open(s.Dirs, id)
	return Pulled{Image: img, Origin: origins[i]}, err == nil
}

// add fetches the layers that are not here and enters the image.
func (s Store) add(ctx context.Context, ref pull.Reference, found *registry.Image, origin Origin, tmp string, opts PullOptions) (layers.Image, error) {
	origins, err := json.MarshalIndent([]Origin{origin}, "", "\t")
	if err != nil {
		return layers.Image{}, err
	}
	in := layers.Source{
		Limits:   opts.Limits,
		Manifest: tarball.Descriptor{Config: found.ConfigDigest.String(), RepoTags: []string{ref.Full()}},
		Config:   found.Config,
	}
	opened := make([]bool, len(found.Layers))
	for i, desc := range found.Layers {
		in.Manifest.Layers = append(in.Manifest.Layers, desc.Digest.Hex+".tar.gz") // as crane.SaveLegacy names it
		in.Blobs = append(in.Blobs, layers.Blob{Digest: desc.Digest.String(), Open: func(ctx context.Context) (layers.Stream, error) {
			opened[i] = true
			if kept, err := store.OpenBlob(s.Dirs, desc.Digest.String()); err == nil {
				opts.Progress(desc, Kept) // another image has it, on top of other layers
				return kept, nil
			}
			return found.Open(ctx, i, tmp, func(done int64) { opts.Progress(desc, done) })
		}})
	}
	extra := documents(found)
	extra["origins.json"] = origins
	img, err := store.Add(ctx, s.Dirs, in, extra, ref)
	if err == nil {
		for i, desc := range found.Layers {
			if !opened[i] {
				opts.Progress(desc, Kept)
			}
		}
	}
	return img, err
}

// documents are the files that keep what the registry sent.
func documents(found *registry.Image) map[string][]byte {
	files := map[string][]byte{found.ManifestDigest.Hex + ".json": found.Manifest}
	if found.Index != nil {
		files[found.Digest.Hex+".json"] = found.Index
	}
	return files
}

// origins reads what registries call an image. One that no registry had has none.
func (s Store) origins(id string) ([]Origin, error) {
	var origins []Origin
	raw, err := os.ReadFile(filepath.Join(s.Dirs.Image(id), "origins.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &origins)
	}
	return origins, err
}

// addOrigin notes a name that a registry has for an image, in place of what the name stood for before, with the documents
// that say so.
func (s Store) addOrigin(id string, origin Origin, documents map[string][]byte) error {
	image, err := dirs.LockShared(s.Dirs.Image(id))
	if errors.Is(err, os.ErrNotExist) {
		return nil // it was pulled, and somebody else has removed it since
	}
	if err != nil {
		return err
	}
	defer image.Close()
	lock, err := dirs.Lock(s.Dirs.Images())
	if err != nil {
		return err
	}
	defer lock.Close()
	origins, err := s.origins(id)
	if err != nil || slices.Contains(origins, origin) {
		return err
	}
	origins = slices.DeleteFunc(origins, func(o Origin) bool {
		return o.Reference == origin.Reference && o.Platform == origin.Platform
	})
	raw, err := json.MarshalIndent(append(origins, origin), "", "\t")
	if err != nil {
		return err
	}
	for _, file := range slices.Sorted(maps.Keys(documents)) {
		if err := renameio.WriteFile(filepath.Join(s.Dirs.Image(id), file), documents[file], 0o644, renameio.WithTempDir(s.Dirs.Image(id))); err != nil {
			return err
		}
	}
	return renameio.WriteFile(filepath.Join(s.Dirs.Image(id), "origins.json"), raw, 0o644, renameio.WithTempDir(s.Dirs.Image(id)))
}
