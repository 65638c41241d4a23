//go:build linux

package images

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"gocker/step01-pull/pull"
	"gocker/step03-layers/layers"
)

// Annotations of index.json that name an image. The first is in the specification (annotations.md, "Pre-Defined Annotation
// Keys") and has been taken for a tag and for a whole name; the second is containerd's and docker's.
const (
	refName   = "org.opencontainers.image.ref.name"
	imageName = "io.containerd.image.name"
)

// Save writes images as one archive: an OCI layout in a tar, and for docker, which asks for it, with its manifest.json
// beside. The bytes that an image came with are in it unchanged, so the same images always give the same archive.
// See https://github.com/opencontainers/image-spec/blob/main/image-layout.md.
func (s Store) Save(out io.Writer, refs []pull.Reference, forDocker bool) error {
	names, err := layers.List(s.Dirs)
	if err != nil {
		return err
	}
	a := archive{w: tar.NewWriter(out), has: map[string]bool{}}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	var manifest tarball.Manifest
	at := map[string]int{} // image -> its place in manifest
	for _, ref := range refs {
		ref, err := s.listed(ref)
		if err != nil {
			return err
		}
		img, err := s.Open(ref)
		if err != nil {
			return err
		}
		named := names[ref.Name][ref.Tag] == img.ID && !strings.HasPrefix(ref.Tag, "sha256:")
		content, err := s.stored(img, true, func(v1.Descriptor, int64) {})
		if err != nil {
			return fmt.Errorf("save %q: %w", ref, err)
		}
		desc, err := a.image(content)
		if err != nil {
			return fmt.Errorf("save %q: %w", ref, err)
		}
		s.Note("save", img, "sha256:"+img.Digest, "sha256:"+img.Digest)
		if _, ok := at[img.ID]; !ok {
			at[img.ID] = len(manifest)
			manifest = append(manifest, entryOf(content))
		}
		if named {
			tags := &manifest[at[img.ID]].RepoTags
			*tags = append(*tags, FullName(ref))
			desc.Annotations = map[string]string{refName: FullName(ref), imageName: FullName(ref)}
		}
		index.Manifests = append(index.Manifests, desc)
	}
	if err := a.json("index.json", index); err != nil {
		return err
	}
	if err := a.file("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	if forDocker {
		if err := a.json("manifest.json", manifest); err != nil {
			return err
		}
	}
	return a.w.Close()
}

// entryOf is an image's entry in docker's manifest.json.
func entryOf(s *stored) tarball.Descriptor {
	entry := tarball.Descriptor{Config: blobName(s.manifest.Config.Digest)}
	for _, layer := range s.manifest.Layers {
		entry.Layers = append(entry.Layers, blobName(layer.Digest))
	}
	return entry
}

func blobName(digest v1.Hash) string { return "blobs/" + digest.Algorithm + "/" + digest.Hex }

// An archive is a tar that has every blob once.
type archive struct {
	w   *tar.Writer
	has map[string]bool
}

// image adds all blobs of an image, and returns the manifest's descriptor.
func (a archive) image(s *stored) (desc v1.Descriptor, err error) {
	desc = v1.Descriptor{MediaType: s.manifest.MediaType, Size: int64(len(s.raw))}
	if desc.Digest, _, err = v1.SHA256(bytes.NewReader(s.raw)); err != nil {
		return desc, err
	}
	for _, layer := range s.manifest.Layers {
		if err := a.layer(s.layers[layer.Digest]); err != nil {
			return desc, err
		}
	}
	if err := a.file(blobName(s.manifest.Config.Digest), s.config); err != nil {
		return desc, err
	}
	return desc, a.file(blobName(desc.Digest), s.raw)
}

func (a archive) layer(layer *told) error {
	content, err := layer.Compressed()
	if err != nil {
		return err
	}
	defer content.Close()
	return a.add(blobName(layer.desc.Digest), layer.desc.Size, content)
}

func (a archive) json(name string, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return a.file(name, raw)
}

func (a archive) file(name string, content []byte) error {
	return a.add(name, int64(len(content)), bytes.NewReader(content))
}

func (a archive) add(name string, size int64, content io.Reader) error {
	if a.has[name] {
		return nil
	}
	a.has[name] = true
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0)}
	if err := a.w.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.Copy(a.w, content)
	return err
}
