//go:build linux

package store

import (
	"fmt"
	"os"
	"path/filepath"

	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/layers"
)

// OpenBlob opens the layer with this digest, as it was sent. In layers that are here it looks for it by digest: the same
// layer on top of others is another folder, but the same blob.
func OpenBlob(d dirs.Dirs, digest string) (layers.Stream, error) {
	folders, err := dirs.Glob(d.Layers(), "*")
	if err != nil {
		return nil, err
	}
	for _, folder := range folders {
		layer, err := layers.ReadLayer(d, "sha256:"+filepath.Base(folder))
		if err != nil || layer.Digest != digest {
			continue
		}
		f, err := os.Open(filepath.Join(folder, "blob"))
		return layers.File{File: f}, err
	}
	return nil, fmt.Errorf("layer %s: %w", digest, os.ErrNotExist)
}
