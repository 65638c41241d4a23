//go:build linux

package images

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"gocker/final/internal/platform"
	"gocker/final/internal/registry"
	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/layers"
)

// A layout is a folder with the documents of images, each by its digest.
type layout struct {
	dir            string
	blob, manifest func(v1.Hash) string // names of files
}

// ociLayout is the OCI image layout. See https://github.com/opencontainers/image-spec/blob/main/image-layout.md.
func ociLayout(dir string) layout { return layout{dir, blobName, blobName} }

// skopeoFolder is skopeo's "dir:".
func skopeoFolder(dir string) layout {
	return layout{dir, func(h v1.Hash) string { return h.Hex }, func(h v1.Hash) string { return h.Hex + ".manifest.json" }}
}

// Manifest is a method of registry.Documents.
func (l layout) Manifest(digest v1.Hash) (raw []byte, mediaType types.MediaType, err error) {
	if raw, err = l.read(l.manifest, digest); err == nil {
		mediaType, err = registry.MediaTypeOf(raw, "")
	}
	return raw, mediaType, err
}

// Config is a method of registry.Documents.
func (l layout) Config(desc v1.Descriptor) ([]byte, error) { return l.read(l.blob, desc.Digest) }

// read reads a document, and compares it with its digest.
func (l layout) read(name func(v1.Hash) string, digest v1.Hash) ([]byte, error) {
	if digest.Algorithm != "sha256" {
		return nil, fmt.Errorf("digest %s is no sha256", digest)
	}
	raw, err := layers.ReadInside(l.dir, name(digest))
	if err != nil {
		return nil, err
	}
	if got, _, err := v1.SHA256(bytes.NewReader(raw)); err != nil || got != digest {
		return nil, fmt.Errorf("%w: %q has the digest %s", layers.ErrDigest, name(digest), got)
	}
	return raw, nil
}

// readLayout reads an OCI layout. If a name stands for images for several platforms, it takes one of them. leftOut
// hears what else the layout has.
func readLayout(dir string, wanted *v1.Platform) (packages []pack, leftOut []string, err error) {
	index, err := readIndex(dir)
	if err != nil {
		return nil, nil, err
	}
	at := map[string]int{} // manifest digest -> its place: an image is there once for each of its names
	var other error
	for _, group := range byName(index.Manifests) {
		p, err := ociLayout(dir).take(group, wanted)
		if errors.Is(err, registry.ErrOther) {
			leftOut = append(leftOut, fmt.Sprintf("%s, %s", group[0].Digest, cmp.Or(group[0].ArtifactType, "something else than an image")))
			other = cmp.Or(other, err)
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		i, ok := at[p.origin.Manifest]
		if !ok {
			i = len(packages)
			at[p.origin.Manifest] = i
			packages = append(packages, p)
		}
		if ref, err := pull.ParseReference(nameOf(group[0])); err == nil { // any other text is no name, and allowed
			packages[i].names = append(packages[i].names, ref)
		}
	}
	if len(packages) == 0 {
		return nil, nil, cmp.Or(other, errors.New("index.json names no image"))
	}
	return packages, leftOut, nil
}

// readIndex reads index.json, if oci-layout says that it can be read.
func readIndex(dir string) (index v1.IndexManifest, err error) {
	var is struct {
		Version string `json:"imageLayoutVersion"`
	}
	raw, err := layers.ReadInside(dir, "oci-layout")
	if err == nil {
		err = dirs.ParseJSON(raw, &is)
	}
	if err != nil {
		return index, fmt.Errorf("oci-layout: %w", err)
	}
	if is.Version != "1.0.0" {
		return index, advice.Add(fmt.Errorf("oci-layout: it has the version %q", is.Version), "a layout that can be read has the version 1.0.0")
	}
	if raw, err = layers.ReadInside(dir, "index.json"); err == nil {
		err = dirs.ParseJSON(raw, &index)
	}
	if err != nil {
		return index, fmt.Errorf("index.json: %w", err)
	}
	if len(index.Manifests) > maxLoaded {
		return index, fmt.Errorf("index.json has %d images; there may be %d", len(index.Manifests), maxLoaded)
	}
	return index, nil
}

// byName puts the descriptors of one name together. A descriptor without a name is alone.
func byName(all []v1.Descriptor) (groups [][]v1.Descriptor) {
	at := map[string]int{}
	for _, desc := range all {
		name := nameOf(desc)
		if i, ok := at[name]; ok && name != "" {
			groups[i] = append(groups[i], desc)
			continue
		}
		at[name] = len(groups)
		groups = append(groups, []v1.Descriptor{desc})
	}
	return groups
}

// nameOf is the name that a descriptor gives an image. OCI's own annotation may be only a tag: then the repository is unknown.
func nameOf(desc v1.Descriptor) string {
	if name, ok := desc.Annotations[imageName]; ok {
		return name
	}
	if name := desc.Annotations[refName]; strings.ContainsAny(name, ":/@") {
		return name
	}
	return ""
}

// take reads the image that a name stands for. all are the descriptors of that name: images for several platforms, or one image
// or index.
func (l layout) take(all []v1.Descriptor, wanted *v1.Platform) (p pack, err error) {
	top := all[0]
	if len(all) > 1 {
		raw, err := json.Marshal(v1.IndexManifest{Manifests: all})
		if err != nil {
			return p, err
		}
		if top.Digest, err = registry.Choose(raw, orHost(wanted), l); err != nil {
			return p, err
		}
		top.MediaType = ""
	}
	if registry.IsAttachment(top) {
		return p, registry.ErrOther
	}
	raw, err := l.read(l.manifest, top.Digest)
	if err != nil {
		return p, err
	}
	return l.image(raw, top, wanted)
}

func orHost(wanted *v1.Platform) v1.Platform {
	if wanted == nil {
		return platform.Host()
	}
	return *wanted
}

// image reads and checks the image whose manifest, or index, is raw.
func (l layout) image(raw []byte, top v1.Descriptor, wanted *v1.Platform) (p pack, err error) {
	mediaType, err := registry.MediaTypeOf(raw, string(top.MediaType))
	if err != nil {
		return p, err
	}
	p.documents = map[string][]byte{top.Digest.Hex + ".json": raw}
	digest := top.Digest
	if mediaType.IsIndex() {
		if digest, err = l.choose(raw, wanted); err != nil {
			return p, err
		}
		if raw, mediaType, err = l.Manifest(digest); err != nil {
			return p, err
		}
		p.documents[digest.Hex+".json"] = raw
	}
	if !mediaType.IsImage() {
		return p, fmt.Errorf("%q is %w", mediaType, registry.ErrOther)
	}
	manifest, err := registry.ParseManifest(raw)
	if err != nil {
		return p, err
	}
	if p.Config, err = l.Config(manifest.Config); err != nil {
		return p, err
	}
	if err := registry.CheckConfig(p.Config, manifest, wanted); err != nil {
		return p, err
	}
	if err := dirs.ParseJSON(p.Config, &p.platform); err != nil {
		return p, err
	}
	p.origin = Origin{Digest: top.Digest.String(), Manifest: digest.String(), Platform: p.platform.String()}
	p.Manifest.Config = manifest.Config.Digest.Hex + ".json"
	for _, layer := range manifest.Layers {
		p.Manifest.Layers = append(p.Manifest.Layers, layer.Digest.Hex+".tar.gz")
		blob := layers.Packaged(l.dir, l.blob(layer.Digest))
		blob.Digest = layer.Digest.String()
		p.Blobs = append(p.Blobs, blob)
	}
	return p, nil
}

// choose finds an image in an index. Docker saves an index as it came, and of its images only those
// that it has. That may be one.
// If no platform is wanted, a single one is taken, whatever it is for.
func (l layout) choose(raw []byte, wanted *v1.Platform) (v1.Hash, error) {
	var index v1.IndexManifest
	if err := dirs.ParseJSON(raw, &index); err != nil {
		return v1.Hash{}, err
	}
	var images []v1.Descriptor
	index.Manifests = slices.DeleteFunc(index.Manifests, func(m v1.Descriptor) bool {
		missing := !isFile(l.dir, l.manifest(m.Digest))
		if !missing && !registry.IsAttachment(m) {
			images = append(images, m)
		}
		return missing
	})
	here, err := json.Marshal(index)
	if err != nil {
		return v1.Hash{}, err
	}
	digest, err := registry.Choose(here, orHost(wanted), l)
	if errors.Is(err, pull.ErrPlatform) && wanted == nil && len(images) == 1 && images[0].MediaType.IsImage() {
		return images[0].Digest, nil
	}
	return digest, err
}

// readFolder reads what skopeo writes as "dir:": manifest.json is the image's manifest, or an index.
func readFolder(dir string, raw []byte, wanted *v1.Platform) (packages []pack, leftOut []string, err error) {
	digest, _, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		return nil, nil, err
	}
	p, err := skopeoFolder(dir).image(raw, v1.Descriptor{Digest: digest}, wanted)
	if err != nil {
		return nil, nil, fmt.Errorf("manifest.json: %w", err)
	}
	return []pack{p}, nil, nil
}
