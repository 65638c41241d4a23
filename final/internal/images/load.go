//go:build linux

package images

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"gocker/final/internal/registry"
	"gocker/final/internal/store"
	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step02-untar/budget"
	"gocker/step02-untar/untar"
	"gocker/step03-layers/layers"
)

// ErrArchive says that what was to be loaded is no archive of images.
var ErrArchive = errors.New("not an archive of images")

// maxLoaded is how many images, and how many names of one, an archive may have.
const maxLoaded = 1000

// A Loaded image is one that came out of an archive.
type Loaded struct {
	layers.Image
	Names []pull.Reference
}

// Load enters the images of an archive: docker's, or an OCI layout in a tar, compressed or not. Nothing that the archive
// says is taken on trust: it is unpacked into a folder of its own, names are followed inside of that only, and digests are
// compared before anybody can see an image. loaded is told of each image that is here.
func (s Store) Load(ctx context.Context, archive io.Reader, limits budget.Limits, loaded func(Loaded)) error {
	return s.load(ctx, func(to string) error { return untar.Unpack(untilDone{ctx, archive}, to, limits) }, limits, loaded)
}

// LoadFolder is Load for an OCI layout, or a docker archive, that is unpacked.
func (s Store) LoadFolder(ctx context.Context, folder string, limits budget.Limits, loaded func(Loaded)) error {
	// A copy: the store keeps the files, and the owner of the folder may write to them.
	return s.load(ctx, func(to string) error { return os.CopyFS(to, os.DirFS(folder)) }, limits, loaded)
}

func (s Store) load(ctx context.Context, fill func(to string) error, limits budget.Limits, loaded func(Loaded)) error {
	partial, err := dirs.NewPartial(s.Dirs.AllTmp())
	if err != nil {
		return err
	}
	defer partial.Discard()
	filled := make(chan error, 1) // standard input may not come for hours, and nothing ends a read
	go func() { filled <- fill(partial.Path) }()
	select {
	case err = <-filled:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	packages, err := readArchive(partial.Path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrArchive, err)
	}
	for _, p := range packages {
		p.Limits = limits
		img, err := store.Add(ctx, s.Dirs, p.Source, nil, p.names...)
		if err != nil {
			return err
		}
		if p.origin.Manifest != "" {
			if err := s.addOrigin(img.ID, p.origin, p.documents); err != nil {
				return err
			}
		}
		s.Note("load", img, "sha256:"+img.Digest, "sha256:"+img.Digest)
		loaded(Loaded{img, p.names})
	}
	return nil
}

// untilDone is a reader that ends with its context.
type untilDone struct {
	ctx context.Context
	io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.Reader.Read(p)
}

// A pack is one image of an unpacked archive.
type pack struct {
	layers.Source
	names     []pull.Reference
	origin    Origin // without a reference: no registry is known to have it
	documents map[string][]byte
}

// readArchive reads and checks all but the layers. An archive that is both, as docker writes them, is read as an OCI
// layout: only that has the manifest's digest.
func readArchive(dir string) ([]pack, error) {
	if isFile(dir, "oci-layout") && isFile(dir, "index.json") {
		return readLayout(dir)
	}
	if isFile(dir, "manifest.json") {
		return readPackage(dir)
	}
	err := errors.New("it has neither manifest.json, as docker's have, nor index.json and oci-layout")
	if isFile(dir, "repositories") {
		return nil, advice.Add(err, "it was made by a docker before 1.10: load it there, and save it with a newer one")
	}
	return nil, advice.Add(err, "archives of images are made by gocker save, docker save, podman save or skopeo copy")
}

func isFile(dir, name string) bool {
	info, err := os.Lstat(filepath.Join(dir, name))
	return err == nil && info.Mode().IsRegular()
}

// readPackage reads docker's kind.
func readPackage(dir string) (packages []pack, err error) {
	raw, err := layers.ReadInside(dir, "manifest.json")
	if err != nil {
		return nil, err
	}
	var all tarball.Manifest
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	if len(all) > maxLoaded {
		return nil, fmt.Errorf("manifest.json has %d images; there may be %d", len(all), maxLoaded)
	}
	for _, image := range all {
		p := pack{Source: layers.Source{Manifest: image}}
		if p.names, err = parseAll(image.RepoTags); err != nil {
			return nil, err
		}
		if p.Config, err = layers.ReadInside(dir, image.Config); err != nil {
			return nil, fmt.Errorf("config: %w", err)
		}
		digest, _, err := v1.SHA256(bytes.NewReader(p.Config))
		if err != nil {
			return nil, err
		}
		// Docker, podman and skopeo name it by its digest.
		if name := strings.TrimSuffix(path.Base(image.Config), ".json"); len(name) == 64 && name != digest.Hex {
			return nil, fmt.Errorf("%w: config %q has the digest %s", layers.ErrDigest, image.Config, digest)
		}
		p.Manifest.Config = digest.Hex + ".json"
		for _, name := range image.Layers {
			p.Blobs = append(p.Blobs, layers.Packaged(dir, name))
		}
		packages = append(packages, p)
	}
	return packages, nil
}

func parseAll(names []string) (refs []pull.Reference, err error) {
	if len(names) > maxLoaded {
		return nil, fmt.Errorf("an image has %d names; there may be %d", len(names), maxLoaded)
	}
	for _, name := range names {
		ref, err := pull.ParseReference(name)
		if err != nil {
			return nil, err
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

// readLayout reads an OCI layout. Of an index it takes this machine's image.
func readLayout(dir string) (packages []pack, err error) {
	raw, err := layers.ReadInside(dir, "index.json")
	if err != nil {
		return nil, err
	}
	index, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	if len(index.Manifests) > maxLoaded {
		return nil, fmt.Errorf("index.json has %d images; there may be %d", len(index.Manifests), maxLoaded)
	}
	at := map[string]int{} // manifest digest -> its place: an image is there once for each of its names
	for _, desc := range index.Manifests {
		p, err := readManifest(dir, desc)
		if err != nil {
			return nil, err
		}
		i, ok := at[p.origin.Manifest]
		if !ok {
			i = len(packages)
			at[p.origin.Manifest] = i
			packages = append(packages, p)
		}
		if ref, err := pull.ParseReference(nameOf(desc)); err == nil { // any other text is no name, and allowed
			packages[i].names = append(packages[i].names, ref)
		}
	}
	return packages, nil
}

func nameOf(desc v1.Descriptor) string {
	if name, ok := desc.Annotations[imageName]; ok {
		return name
	}
	return desc.Annotations[refName]
}

// readManifest reads and checks the image that a descriptor of index.json means.
func readManifest(dir string, desc v1.Descriptor) (p pack, err error) {
	raw, err := readBlob(dir, desc.Digest)
	if err != nil {
		return p, err
	}
	mediaType, err := registry.MediaTypeOf(raw, string(desc.MediaType))
	if err != nil {
		return p, err
	}
	p.documents = map[string][]byte{desc.Digest.Hex + ".json": raw}
	digest := desc.Digest
	if mediaType.IsIndex() {
		if digest, err = registry.Choose(raw, pull.HostPlatform()); err != nil {
			return p, err
		}
		if raw, err = readBlob(dir, digest); err != nil {
			return p, err
		}
		p.documents[digest.Hex+".json"] = raw
	}
	manifest, err := registry.ParseManifest(raw)
	if err != nil {
		return p, err
	}
	if p.Config, err = readBlob(dir, manifest.Config.Digest); err != nil {
		return p, err
	}
	if err := registry.CheckConfig(p.Config, manifest, nil); err != nil {
		return p, err
	}
	config, err := v1.ParseConfigFile(bytes.NewReader(p.Config))
	if err != nil {
		return p, err
	}
	p.origin = Origin{Digest: desc.Digest.String(), Manifest: digest.String(), Platform: config.Platform().String()}
	p.Manifest.Config = manifest.Config.Digest.Hex + ".json"
	for _, layer := range manifest.Layers {
		p.Manifest.Layers = append(p.Manifest.Layers, layer.Digest.Hex+".tar.gz")
		blob := layers.Packaged(dir, blobName(layer.Digest))
		blob.Digest = layer.Digest.String()
		p.Blobs = append(p.Blobs, blob)
	}
	return p, nil
}

// readBlob reads a document of an OCI layout, and compares it with its digest.
func readBlob(dir string, digest v1.Hash) ([]byte, error) {
	if digest.Algorithm != "sha256" {
		return nil, fmt.Errorf("digest %s is no sha256", digest)
	}
	raw, err := layers.ReadInside(dir, blobName(digest))
	if err != nil {
		return nil, err
	}
	if got, _, err := v1.SHA256(bytes.NewReader(raw)); err != nil || got != digest {
		return nil, fmt.Errorf("%w: %q has the digest %s", layers.ErrDigest, blobName(digest), got)
	}
	return raw, nil
}
