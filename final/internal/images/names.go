//go:build linux

package images

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/local"
)

// FullName is a reference with all defaults filled in, as docker spells it: "docker.io/library/alpine:latest". The image
// that needs no network has no registry.
func FullName(ref pull.Reference) string {
	if ref.IsSample() {
		return ref.String()
	}
	return strings.Replace(ref.Full(), name.DefaultRegistry+"/", "docker.io/", 1)
}

// localPrefix is what buildah and podman put before the name of an image that they have built.
const localPrefix = "localhost/"

// listed is the name by which an image is in images.json: ref itself, or if there is none, that with podman's prefix.
func (s Store) listed(ref pull.Reference) (pull.Reference, error) {
	names, err := layers.List(s.Dirs)
	if err != nil {
		return ref, err
	}
	if _, ok := names[ref.Name][ref.Tag]; ok {
		return ref, nil
	}
	if _, ok := names[localPrefix+ref.Name][ref.Tag]; !ok {
		return ref, nil
	}
	return pull.ParseReference(localPrefix + ref.String())
}

// Lookup returns the {image} that a user means: by a name, by the beginning of its id, or by a digest that a registry has
// for it.
func (s Store) Lookup(ref pull.Reference) (string, error) {
	ref, err := s.listed(ref)
	if err != nil {
		return "", err
	}
	id, err := local.Lookup(s.Dirs, ref)
	if !errors.Is(err, local.ErrNoImage) || !strings.HasPrefix(ref.Tag, "sha256:") {
		return id, err
	}
	ids, listErr := s.ids()
	if listErr != nil {
		return "", listErr
	}
	for _, id := range ids {
		digests, originErr := s.repoDigests(id)
		if originErr != nil {
			return "", originErr
		}
		if slices.Contains(digests, ref.String()) {
			return id, nil
		}
	}
	return "", err
}

// repoDigests are the names with digests that registries have for an image.
func (s Store) repoDigests(id string) ([]string, error) {
	origins, err := s.origins(id)
	var digests []string
	for _, origin := range origins {
		if ref, err := pull.ParseReference(origin.Reference); err == nil { // a loaded archive has none
			digests = append(digests, ref.Name+"@"+origin.Digest, ref.Name+"@"+origin.Manifest)
		}
	}
	slices.Sort(digests)
	return slices.Compact(digests), err
}

// Open opens the image that a user means.
func (s Store) Open(ref pull.Reference) (layers.Image, error) {
	img, lock, err := s.Hold(ref)
	if err == nil {
		lock.Close()
	}
	return img, err
}

// Hold opens an image that nobody can remove until lock is closed. Without it an image that is just being removed would
// look damaged.
func (s Store) Hold(ref pull.Reference) (img layers.Image, lock *os.File, err error) {
	id, err := s.Lookup(ref)
	if err != nil {
		return img, nil, err
	}
	lock, err = dirs.LockShared(s.Dirs.Image(id))
	if errors.Is(err, os.ErrNotExist) {
		return img, nil, fmt.Errorf("%w: %q: somebody has removed it a moment ago", local.ErrNoImage, ref)
	}
	if err != nil {
		return img, nil, err
	}
	if img, err = layers.Open(s.Dirs, id); err != nil {
		lock.Close()
	}
	return img, lock, err
}
