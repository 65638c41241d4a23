//go:build linux

package images

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"gocker/final/internal/registry"
	"gocker/step02-untar/decompress"
	"gocker/step03-layers/layers"
)

// stored is an image of the store, in the words of go-containerregistry.
type stored struct {
	raw, config []byte
	manifest    *v1.Manifest
	layers      map[v1.Hash]*told
}

func (s *stored) RawConfigFile() ([]byte, error)      { return s.config, nil }
func (s *stored) RawManifest() ([]byte, error)        { return s.raw, nil }
func (s *stored) MediaType() (types.MediaType, error) { return s.manifest.MediaType, nil }
func (s *stored) image() (v1.Image, error)            { return partial.CompressedToImage(s) }
func (s *stored) LayerByDigest(digest v1.Hash) (partial.CompressedLayer, error) {
	layer, ok := s.layers[digest]
	if !ok {
		return nil, fmt.Errorf("layer %s: %w", digest, os.ErrNotExist)
	}
	return layer, nil
}

// stored describes an image by the manifest that it came with, if all its layers are here as that says, else by one made
// of what is here. For an archive it has to be OCI's, and layers may be plain; registries get them compressed.
func (s Store) stored(img layers.Image, forArchive bool, progress func(layer v1.Descriptor, done int64)) (out *stored, err error) {
	config, err := os.ReadFile(filepath.Join(s.Dirs.Image(img.ID), img.Digest+".json"))
	if err != nil {
		return nil, err
	}
	out = &stored{config: config, layers: map[v1.Hash]*told{}}
	if out.raw, out.manifest, err = s.manifestOf(img); err != nil {
		return nil, err
	}
	made := out.manifest == nil || forArchive && out.manifest.MediaType != types.OCIManifestSchema1
	if made {
		out.manifest = &v1.Manifest{
			SchemaVersion: 2,
			MediaType:     types.OCIManifestSchema1,
			Config:        v1.Descriptor{MediaType: types.OCIConfigJSON, Size: int64(len(config)), Digest: v1.Hash{Algorithm: "sha256", Hex: img.Digest}},
		}
	}
	for i, layer := range img.Layers {
		var sent partial.CompressedLayer
		if made {
			sent, err = s.describe(layer, forArchive)
		} else {
			sent = blob{s.blobOf(layer), out.manifest.Layers[i]}
		}
		if err != nil {
			return nil, fmt.Errorf("read layer %s: %w", layer.Digest, err)
		}
		desc, err := partial.Descriptor(sent)
		if err != nil {
			return nil, err
		}
		if made {
			out.manifest.Layers = append(out.manifest.Layers, *desc)
		}
		out.layers[desc.Digest] = &told{CompressedLayer: sent, desc: *desc, progress: progress}
	}
	if made {
		out.raw, err = json.Marshal(out.manifest)
	}
	return out, err
}

func (s Store) blobOf(layer layers.Layer) string {
	return filepath.Join(s.Dirs.Layer(strings.TrimPrefix(layer.ChainID, "sha256:")), "blob")
}

// manifestOf returns a manifest that the image came with and whose layers are all here; nil where there is none.
func (s Store) manifestOf(img layers.Image) ([]byte, *v1.Manifest, error) {
	origins, err := s.origins(img.ID)
	if err != nil {
		return nil, nil, err
	}
	for _, origin := range origins {
		raw, err := s.document(img.ID, origin.Manifest)
		if err != nil {
			return nil, nil, err
		}
		manifest, err := registry.ParseManifest(raw)
		if err != nil {
			return nil, nil, err
		}
		all := len(manifest.Layers) == len(img.Layers)
		for i := 0; all && i < len(img.Layers); i++ {
			all = manifest.Layers[i].Digest.String() == img.Layers[i].Digest
		}
		if all {
			manifest.MediaType = cmp.Or(manifest.MediaType, types.OCIManifestSchema1)
			return raw, manifest, nil
		}
	}
	return nil, nil, nil
}

// describe finds out how a layer is packed. One that no media type fits is packed anew, with gzip.
func (s Store) describe(layer layers.Layer, plainFits bool) (partial.CompressedLayer, error) {
	path := s.blobOf(layer)
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	first := make([]byte, 4)
	if _, err := io.ReadFull(f, first); err != nil {
		return nil, err
	}
	digest, err := v1.NewHash(layer.Digest)
	if err != nil {
		return nil, err
	}
	desc := v1.Descriptor{Digest: digest, Size: layer.Size}
	switch {
	case bytes.HasPrefix(first, []byte("\x1f\x8b")):
		desc.MediaType = types.OCILayer
	case bytes.HasPrefix(first, []byte("\x28\xb5\x2f\xfd")):
		desc.MediaType = types.OCILayerZStd
	case plainFits && layer.Digest == layer.DiffID:
		desc.MediaType = types.OCIUncompressedLayer
	default:
		return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
			f, err := os.Open(path)
			if err != nil {
				return nil, err
			}
			return plain{decompress.Reader(f), f}, nil
		}, tarball.WithMediaType(types.OCILayer))
	}
	return blob{path, desc}, nil
}

// plain closes both what decompresses and the file that it reads.
type plain struct {
	io.ReadCloser
	file *os.File
}

func (p plain) Close() error {
	p.ReadCloser.Close() // which may still read
	return p.file.Close()
}

// A blob is a layer as it lies in the store.
type blob struct {
	path string
	desc v1.Descriptor
}

func (b blob) Descriptor() (*v1.Descriptor, error) { return &b.desc, nil }
func (b blob) Digest() (v1.Hash, error)            { return b.desc.Digest, nil }
func (b blob) Size() (int64, error)                { return b.desc.Size, nil }
func (b blob) MediaType() (types.MediaType, error) { return b.desc.MediaType, nil }
func (b blob) Compressed() (io.ReadCloser, error)  { return os.Open(b.path) }

// told is a layer that tells how much of it was read.
type told struct {
	partial.CompressedLayer
	desc     v1.Descriptor
	progress func(layer v1.Descriptor, done int64)
	opened   atomic.Bool
}

func (t *told) Compressed() (io.ReadCloser, error) {
	t.opened.Store(true)
	r, err := t.CompressedLayer.Compressed()
	return &toldReader{ReadCloser: r, told: t}, err
}

type toldReader struct {
	io.ReadCloser
	told *told
	done int64
}

func (r *toldReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if r.done += int64(n); n > 0 {
		r.told.progress(r.told.desc, r.done)
	}
	return n, err
}
