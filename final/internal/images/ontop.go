//go:build linux

package images

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"gocker/final/internal/store"
	"gocker/step01-pull/pull"
	"gocker/step02-untar/budget"
	"gocker/step03-layers/layers"
)

// A NewLayer is a packed layer, a file in a folder, that no image has yet.
type NewLayer struct {
	Folder, Name   string
	Digest, DiffID v1.Hash
}

// AddOnTop enters an image that has the layers of base, and one more on top. config is the new image's, but for that
// layer's diffID.
func (s Store) AddOnTop(ctx context.Context, base layers.Image, layer NewLayer, config ConfigFile, names ...pull.Reference) (layers.Image, error) {
	return s.addOnTop(ctx, base, layer, config, budget.None, names...)
}

func (s Store) addOnTop(ctx context.Context, base layers.Image, layer NewLayer, config ConfigFile, limits budget.Limits, names ...pull.Reference) (none layers.Image, err error) {
	config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, layer.DiffID)
	raw, err := json.Marshal(config)
	if err != nil {
		return none, err
	}
	hash, _, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		return none, err
	}
	in := layers.Source{Manifest: tarball.Descriptor{Config: hash.Hex + ".json"}, Config: raw, Limits: limits}
	for _, below := range base.Layers {
		in.Manifest.Layers = append(in.Manifest.Layers, strings.TrimPrefix(below.Digest, "sha256:")+".tar.gz")
		in.Blobs = append(in.Blobs, layers.Blob{Digest: below.Digest, Open: func(context.Context) (layers.Stream, error) {
			return store.OpenBlob(s.Dirs, below.Digest)
		}})
	}
	in.Manifest.Layers = append(in.Manifest.Layers, layer.Digest.Hex+".tar.gz")
	blob := layers.Packaged(layer.Folder, layer.Name)
	blob.Digest = layer.Digest.String()
	in.Blobs = append(in.Blobs, blob)
	return store.Add(ctx, s.Dirs, in, nil, names...)
}
