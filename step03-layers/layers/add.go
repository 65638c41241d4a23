//go:build linux

package layers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step02-untar/budget"
	"gocker/step02-untar/untar"
	"gocker/step03-layers/changeset"
	"gocker/step03-layers/merged"
)

// An Incoming image is one on its way in: Begin, Unpack each layer, Keep. Nobody sees any of it before Keep.
type Incoming struct {
	Image
	Extra map[string][]byte // more files for images/{image}
	// Wait returns once the layers below the layer i are unpacked. nil is for a caller that unpacks one after the other, the
	// lowest first.
	Wait func(ctx context.Context, i int) error

	d       dirs.Dirs
	source  Source
	budget  *budget.Budget
	entry   *dirs.Partial   // what will be images/{image}
	layers  []*dirs.Partial // what will be layers/{chainID}; nil for a layer that is here already
	folders merged.Stack    // where their files are now
}

// Begin makes the image's folder under a name that nobody looks at. Its links keep the layers, those that are here and
// those that will be. End with Discard.
func Begin(d dirs.Dirs, source Source) (*Incoming, error) {
	config, err := parseConfig(source.Manifest, source.Config)
	if err != nil {
		return nil, err
	}
	// Fail now, not after the work, where the image could not be entered.
	if _, err := List(d); err != nil {
		return nil, err
	}
	in := &Incoming{Image: Image{Digest: sum(source.Config), Config: config}, d: d, source: source, budget: source.Limits.Budget()}
	in.ID = dirs.Short(in.Digest)
	for i, chainID := range ChainIDs(config.RootFS.DiffIDs) {
		in.Layers = append(in.Layers, Layer{changeset.Changeset{DiffID: config.RootFS.DiffIDs[i].String()}, "sha256:" + chainID})
	}
	in.layers, in.folders = make([]*dirs.Partial, len(in.Layers)), make(merged.Stack, len(in.Layers))

	if err := os.MkdirAll(d.Layers(), 0o700); err != nil {
		return nil, err
	}
	lock, err := dirs.LockShared(d.Layers())
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if in.entry, err = dirs.NewPartial(d.Images()); err != nil {
		return nil, err
	}
	for i, name := range Names(source.Manifest) {
		to := filepath.Join("..", "..", "layers", strings.TrimPrefix(in.Layers[i].ChainID, "sha256:"))
		if err := os.Symlink(to, filepath.Join(in.entry.Path, name)); err != nil {
			in.Discard()
			return nil, fmt.Errorf("enter image %s: %w", in.ID, err)
		}
	}
	return in, nil
}

// Discard removes what has no name yet.
func (in *Incoming) Discard() {
	in.entry.Discard()
	for _, layer := range in.layers {
		if layer != nil {
			layer.Discard()
		}
	}
}

// Unpack makes the folder of the layer i, the lowest is 0, if it is not here yet. Its digest and diffID are computed anew,
// and compared with what manifest and config say of them.
func (in *Incoming) Unpack(ctx context.Context, i int) error {
	if err := in.unpack(ctx, i); err != nil {
		return fmt.Errorf("unpack layer %s of image %s: %w", in.source.Manifest.Layers[i], in.ID, err)
	}
	return nil
}

func (in *Incoming) unpack(ctx context.Context, i int) (err error) {
	layer := &in.Layers[i]
	known, err := ReadLayer(in.d, layer.ChainID)
	if err == nil {
		*layer, in.folders[i] = known, Files(in.d, layer.ChainID)
		return nil
	}
	if !dirs.Lost(err) {
		return err
	}
	if in.layers[i], err = dirs.NewPartial(in.d.Layers()); err != nil {
		return err
	}
	folder := in.layers[i].Path
	in.folders[i] = filepath.Join(folder, "fs")
	blob := in.source.Blobs[i]
	stream, err := blob.Open(ctx)
	if err != nil {
		return err
	}
	defer stream.Close()
	below := func() (merged.Stack, error) {
		if in.Wait == nil {
			return in.folders[:i:i], nil
		}
		return in.folders[:i:i], in.Wait(ctx, i)
	}
	got, err := changeset.Unpack(stream, in.folders[i], below, in.budget)
	if err != nil && !errors.Is(err, untar.ErrArchive) {
		return err
	}
	// A damaged archive may be what somebody made, or what was made of it on the way: the digest tells.
	if blob.Digest != "" && got.Digest != blob.Digest {
		return advice.Add(fmt.Errorf("%w: what was sent is %s, the manifest says %s", ErrDigest, got.Digest, blob.Digest), "pull the image again")
	}
	if err != nil {
		return err
	}
	if got.DiffID != layer.DiffID {
		return advice.Add(fmt.Errorf("%w: diffID is %s, the config says %s", ErrDigest, got.DiffID, layer.DiffID), "pull the image again")
	}
	layer.Changeset = got
	if err := stream.Link(filepath.Join(folder, "blob")); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(layer, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "layer.json"), raw, 0o644)
}

// Keep gives the layers and the image's folder their names, with manifest.json and config in it. All of it is on the disk
// before.
func (in *Incoming) Keep() error {
	if err := in.writeFiles(); err != nil {
		return err
	}
	store, err := os.Open(in.d.Layers())
	if err != nil {
		return err
	}
	defer store.Close()
	if err := unix.Syncfs(int(store.Fd())); err != nil { // one sync for all the files
		return fmt.Errorf("sync %q: %w", in.d.Layers(), err)
	}
	for i := range in.layers {
		if err := in.nameLayer(i); err != nil {
			return err
		}
	}
	// A command that looks for layers without links must find these links below the old name or below the new one.
	lock, err := dirs.LockShared(in.d.Layers())
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := in.nameImage(); err != nil {
		return fmt.Errorf("enter image %s: %w", in.ID, err)
	}
	return store.Sync()
}

// writeFiles makes the files of images/{image}.
func (in *Incoming) writeFiles() error {
	manifest, err := json.Marshal(tarball.Manifest{in.source.Manifest})
	if err != nil {
		return err
	}
	files := map[string][]byte{"manifest.json": manifest, in.Digest + ".json": in.source.Config}
	maps.Copy(files, in.Extra)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := os.WriteFile(filepath.Join(in.entry.Path, name), files[name], 0o644); err != nil {
			return err
		}
	}
	return os.Chmod(in.entry.Path, 0o755)
}

// nameLayer gives a layer's folder its name. Where another process was first, that one's is as good.
func (in *Incoming) nameLayer(i int) error {
	layer := &in.Layers[i]
	if in.layers[i] == nil {
		return nil
	}
	final := in.d.Layer(strings.TrimPrefix(layer.ChainID, "sha256:"))
	err := in.layers[i].Finish(final)
	if !errors.Is(err, os.ErrExist) {
		return err
	}
	known, err := ReadLayer(in.d, layer.ChainID)
	if err == nil {
		*layer = known
		return nil
	}
	if !dirs.Lost(err) {
		return err // other images may have it
	}
	// The layer that is there is damaged, and the error for that advises to pull again.
	if err := dirs.RemoveAll(final); err != nil {
		return err
	}
	return in.layers[i].Finish(final)
}

// nameImage gives the image's folder its name.
func (in *Incoming) nameImage() error {
	if err := in.entry.Finish(in.d.Image(in.ID)); !errors.Is(err, os.ErrExist) {
		return err
	}
	// It is here already. Twelve digits can be found by trying: look at all of them.
	if _, err := os.Stat(filepath.Join(in.d.Image(in.ID), in.Digest+".json")); err != nil {
		return advice.Add(fmt.Errorf("%w: there is another image %s: %w", ErrDigest, in.ID, err), "remove that image first")
	}
	return nil
}
