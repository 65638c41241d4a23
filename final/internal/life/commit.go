//go:build linux

package life

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"gocker/final/internal/aside"
	"gocker/final/internal/containers"
	"gocker/final/internal/images"
	"gocker/final/internal/store"
	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step02-untar/budget"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/merged"
	"gocker/step03-layers/usernamespace"
	"gocker/step04-overlay/overlay"
)

// CommitOptions are the flags of "gocker commit".
type CommitOptions struct {
	Message, Author string
	Changes         []string // lines of a Dockerfile: see images.Change
	Pause           bool     // a container that runs stands still while its files are read
}

// Commit makes an image of a container: the layers of the container's image, one more of what the container changed, and
// the config with changes. names may be empty.
func (life Life) Commit(ctx context.Context, container string, opts CommitOptions, names ...pull.Reference) (layers.Image, error) {
	s, err := life.Containers.Find(container)
	if err != nil {
		return layers.Image{}, err
	}
	img, err := life.commit(ctx, s, opts, names)
	if err != nil {
		return layers.Image{}, fmt.Errorf("commit container %q: %w", container, err)
	}
	id, ref := "sha256:"+img.Digest, ""
	if len(names) > 0 {
		ref = names[0].String()
	}
	life.Containers.Note("commit", s, "comment", opts.Message, "imageID", id, "imageRef", ref)
	for _, name := range names {
		life.Images.Note("tag", img, id, name.String())
	}
	return img, nil
}

func (life Life) commit(ctx context.Context, s containers.State, opts CommitOptions, names []pull.Reference) (none layers.Image, err error) {
	f, err := overlay.Open(life.Containers.Dirs, s.ID)
	if err == nil {
		defer f.Close() // it cannot be removed meanwhile
	} else if !errors.Is(err, dirs.ErrLocked) { // a container that runs is locked
		return none, err
	}
	base, err := life.Containers.ImageOf(s.ID)
	if err != nil {
		return none, err
	}
	config := images.ConfigFile{ConfigFile: base.Config.DeepCopy()}
	if config.Config, err = life.Images.Config(base); err != nil {
		return none, err
	}
	for _, change := range opts.Changes {
		if err := images.Change(&config.Config, change); err != nil {
			return none, err
		}
	}
	partial, err := dirs.NewPartial(life.Containers.Dirs.AllTmp())
	if err != nil {
		return none, err
	}
	defer partial.Discard()
	goOn, err := life.standStill(s, opts.Pause)
	if err != nil {
		return none, err
	}
	layer, err := life.packLayer(ctx, partial.Path, s)
	if merged.Moved(err) {
		err = advice.Add(err, "the container changed it meanwhile; without --pause=false gocker freezes the container first")
	}
	if err = cmp.Or(err, goOn()); err != nil {
		return none, err
	}
	config.Created = v1.Time{Time: time.Now().UTC()}
	config.Author, config.Container = opts.Author, s.Whole()
	config.History = append(config.History, v1.History{
		Created: config.Created, CreatedBy: strings.Join(s.Command, " "), Author: opts.Author, Comment: opts.Message,
	})
	img, err := life.Images.AddOnTop(ctx, base, layer, config, names...)
	if errors.Is(err, budget.ErrLimit) {
		err = advice.Add(err, "such an image could not be unpacked elsewhere; to take such files out of the container: gocker cp, or gocker export")
	}
	return img, err
}

// standStill pauses a container until goOn is called, if it runs and pause is true.
func (life Life) standStill(s containers.State, pause bool) (goOn func() error, err error) {
	ended := func(err error) bool {
		return errors.Is(err, containers.ErrNotRunning) || errors.Is(err, containers.ErrNoContainer)
	}
	if pause {
		err = life.Pause(s.ID)
	}
	switch {
	case !pause || ended(err) || errors.Is(err, containers.ErrPaused):
		return func() error { return nil }, nil
	case err != nil:
		return nil, advice.Add(err, "to read the files while they change: gocker commit --pause=false")
	}
	return func() error {
		if err := life.Unpause(s.ID); err != nil && !ended(err) && !errors.Is(err, ErrNotPaused) {
			return err
		}
		return nil
	}, nil
}

// packLayer writes what a container changed as a compressed layer, into a folder.
func (life Life) packLayer(ctx context.Context, folder string, s containers.State) (layer images.NewLayer, err error) {
	view, err := life.Containers.View(s.ID)
	if err != nil {
		return layer, err
	}
	spec, err := life.Containers.ReadSpec(s.ID)
	if err != nil {
		return layer, err
	}
	layer.Folder, layer.Name = folder, "layer.tar.gz"
	f, err := os.OpenFile(filepath.Join(folder, layer.Name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return layer, err
	}
	defer f.Close()
	sent, plain := sha256.New(), sha256.New()
	z := gzip.NewWriter(io.MultiWriter(f, sent))
	if err := aside.Look(view, func() error {
		_, targets, err := containers.SplitChanges(view, spec.Mounts)
		if err != nil {
			return err
		}
		own := func(*tar.Header) error { return nil }
		if usernamespace.Inside() && len(spec.Linux.UIDMappings) > 0 { // else its files have the container's numbers on the disk
			own = store.OwnInside(spec.Linux)
		}
		return store.PackAs(untilDoneWriter{ctx, io.MultiWriter(z, plain)}, view.Upperdir(), own, targets...)
	}); err != nil {
		return layer, err
	}
	err = errors.Join(z.Close(), f.Close())
	layer.Digest = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sent.Sum(nil))}
	layer.DiffID = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(plain.Sum(nil))}
	return layer, err
}

// untilDoneWriter is a writer that ends with its context.
type untilDoneWriter struct {
	ctx context.Context
	io.Writer
}

func (u untilDoneWriter) Write(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.Writer.Write(p)
}
