//go:build linux

package images

import (
	"context"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"gocker/final/internal/registry"
	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/local"
)

// PushOptions are the flags of "gocker push".
type PushOptions struct {
	registry.Options

	// Several goroutines tell Progress how many bytes of a layer are sent, or Kept if the registry had it.
	Progress func(layer v1.Descriptor, done int64)
}

// Tags are the tags that a repository has here.
func (s Store) Tags(ref pull.Reference) (tags []string, err error) {
	names, err := layers.List(s.Dirs)
	for tag := range names[ref.Name] {
		if !strings.HasPrefix(tag, "sha256:") {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	if err == nil && tags == nil {
		err = advice.Add(fmt.Errorf("%w of the repository %q", local.ErrNoImage, ref.Name), "to see those that are here: gocker images")
	}
	return tags, err
}

// Push sends the image with the name ref to the registry that the name says. An image that came from a registry has the
// same digest there. It returns the digest and the size, in bytes, of the manifest.
func (s Store) Push(ctx context.Context, ref pull.Reference, opts PushOptions) (digest v1.Hash, size int64, err error) {
	names, err := layers.List(s.Dirs)
	if err != nil {
		return digest, 0, err
	}
	id, ok := names[ref.Name][ref.Tag]
	if !ok {
		return digest, 0, advice.Add(fmt.Errorf("push %q: %w of this name", ref, local.ErrNoImage), "to give one the name: gocker tag IMAGE %s", ref)
	}
	img, err := layers.Open(s.Dirs, id)
	if err != nil {
		return digest, 0, err
	}
	sent, err := s.stored(img, false, opts.Progress)
	if err != nil {
		return digest, 0, fmt.Errorf("push %q: %w", ref, err)
	}
	image, err := sent.image()
	if err != nil {
		return digest, 0, err
	}
	if err := opts.Push(ctx, ref, image); err != nil {
		return digest, 0, err
	}
	for _, layer := range sent.layers {
		if !layer.opened.Load() {
			opts.Progress(layer.desc, Kept)
		}
	}
	if digest, err = image.Digest(); err != nil {
		return digest, 0, err
	}
	s.Note("push", img, ref.String(), ref.Name)
	origin := Origin{ref.String(), digest.String(), digest.String(), img.Config.Platform().String()}
	return digest, int64(len(sent.raw)), s.addOrigin(id, origin, map[string][]byte{digest.Hex + ".json": sent.raw})
}
