//go:build linux

package images

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step02-untar/budget"
	"gocker/step02-untar/decompress"
	"gocker/step02-untar/untar"
	"gocker/step03-layers/layers"
)

// ImportOptions are the flags of "gocker import".
type ImportOptions struct {
	From     string // where the archive comes from, for the image's history
	Message  string
	Changes  []string // lines of a Dockerfile: see Change
	Platform *v1.Platform
	Limits   budget.Limits
}

// Import makes an image of one layer of a tar archive, compressed or not. names may be empty.
func (s Store) Import(ctx context.Context, archive io.Reader, opts ImportOptions, names ...pull.Reference) (img layers.Image, err error) {
	is := orHost(opts.Platform)
	now := v1.Time{Time: time.Now().UTC()}
	config := ConfigFile{ConfigFile: &v1.ConfigFile{
		OS: is.OS, Architecture: is.Architecture, Variant: is.Variant, Created: now, RootFS: v1.RootFS{Type: "layers"},
		History: []v1.History{{Created: now, Comment: cmp.Or(opts.Message, "Imported from "+opts.From)}},
	}}
	for _, change := range opts.Changes {
		if err := Change(&config.Config, change); err != nil {
			return img, err
		}
	}
	partial, err := dirs.NewPartial(s.Dirs.AllTmp())
	if err != nil {
		return img, err
	}
	defer partial.Discard()
	var layer NewLayer
	err = inTime(ctx, func() (err error) {
		layer, err = keepLayer(untilDone{ctx, archive}, partial.Path, opts.Limits)
		return err
	})
	if err == nil {
		img, err = s.addOnTop(ctx, layers.Image{}, layer, config, opts.Limits, names...)
	}
	if err != nil {
		return img, fmt.Errorf("import %q: %w", opts.From, err)
	}
	id := "sha256:" + img.Digest
	s.Note("import", img, id, id)
	return img, nil
}

// keepLayer writes an archive into a folder as it arrives, and computes its digests.
func keepLayer(archive io.Reader, folder string, limits budget.Limits) (layer NewLayer, err error) {
	layer.Folder, layer.Name = folder, "layer.tar"
	f, err := os.OpenFile(filepath.Join(folder, layer.Name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return layer, err
	}
	defer f.Close()
	sent, plain, left := sha256.New(), sha256.New(), limits.Budget()
	kept := io.TeeReader(left.In(archive), io.MultiWriter(f, sent))
	decompressed := decompress.Reader(kept)
	end := &untar.Ending{R: left.Out(decompressed)}
	_, err = io.Copy(plain, end)
	decompressed.Close() // which may still read
	if err == nil {
		_, err = io.Copy(io.Discard, kept)
	}
	if err == nil && !end.HasMark() {
		err = advice.Add(fmt.Errorf("%w: it has no end mark", untar.ErrArchive), "an archive is made by gocker export, docker export or tar")
	}
	if err != nil {
		return layer, err
	}
	layer.Digest = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sent.Sum(nil))}
	layer.DiffID = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(plain.Sum(nil))}
	return layer, f.Close()
}
