//go:build linux

package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/final/internal/attach"
	"gocker/final/internal/describe"
	"gocker/final/internal/images"
	"gocker/final/internal/logs"
	"gocker/step01-pull/shared/advice"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/local"
	"gocker/step04-overlay/check"
	"gocker/step04-overlay/overlay"
)

// A container is one that this process has: it holds the lock on its folder, and its file system is mounted.
type container struct {
	Engine
	fs     *overlay.FS
	spec   *specs.Spec
	state  State
	log    *logs.Log      // nil if it has none
	server *attach.Server // nil if nobody can be attached
	kept   bool           // somebody stays who starts it again
}

// Create makes a container, and no process. Start starts it.
func (e Engine) Create(opts describe.Options, say func(format string, args ...any)) (id string, err error) {
	ctx, signals := catchSignals()
	defer signals.stop()
	c, err := e.create(ctx, opts, say)
	if err != nil {
		return "", err
	}
	return c.state.ID, errors.Join(c.change(func(s *State) { s.Status = specs.StateCreated }), c.close())
}

// create makes a container: its folder, its name, config.json, and at the very end state.json. If it fails, nothing is
// left. Until it runs, or its maker changes that, it is "creating": nobody has it yet, and if we die, it goes.
func (e Engine) create(ctx context.Context, opts describe.Options, say func(format string, args ...any)) (_ *container, err error) {
	if _, err := opts.Limits.Resources(); err != nil { // before anything is pulled
		return nil, err
	}
	if r := check.Privilege(); !r.OK {
		return nil, check.Explain(errors.New("make a container"), []check.Result{r})
	}
	if err := opts.Check(); err != nil {
		return nil, err
	}
	if err := e.nameOthers(&opts.Isolation); err != nil {
		return nil, err
	}
	lent, err := e.lent(opts.Mounts.From)
	if err != nil {
		return nil, err
	}
	// Package json looks at all that a type has when it meets it first. For these two that is a millisecond, which passes
	// here while the image is read.
	go json.Marshal([]any{specs.Spec{}, State{}})
	img, err := e.image(ctx, opts, say)
	if err != nil {
		return nil, err
	}
	if opts.Replace {
		if err := e.Rm(opts.Name, RmOptions{Force: true}); err != nil && !errors.Is(err, ErrNoContainer) {
			return nil, err
		}
	}
	f, err := overlay.Create(e.Dirs, img, e.Tell)
	if err != nil {
		return nil, err
	}
	c := &container{Engine: e, fs: f, state: State{
		State: specs.State{Version: specs.Version, ID: f.ID, Status: specs.StateCreating, Bundle: f.Dir},
		Name:  opts.Name, Image: opts.Image.String(), ImageID: img.Digest, Created: time.Now(), Options: opts,
		StopSignal: cmp.Or(opts.StopSignal, img.Config.Config.StopSignal, "SIGTERM"),
	}}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.remove(true))
		}
	}()
	if err := c.takeSomeName(); err != nil {
		return nil, err
	}
	f.Volatile = opts.Remove
	// Who its user is, its own /etc/passwd says.
	if err := f.Mount(); err != nil {
		return nil, err
	}
	d, err := describe.Container(f, img.Config.Config, opts, lent, e.Volumes())
	defer d.Release() // when config.json says that it has its volumes
	c.spec, c.state.Volumes, c.state.Command = d.Spec, d.Volumes, d.Command
	if err != nil {
		return nil, err
	}
	if c.state.Has, err = e.volumesIn(c.spec); err != nil {
		return nil, err
	}
	c.state.Annotations = c.spec.Annotations
	if err := writeJSON(filepath.Join(f.Dir, "config.json"), c.spec); err != nil {
		return nil, err
	}
	if err := writeJSON(filepath.Join(f.Dir, stateName), c.state); err != nil {
		return nil, err
	}
	if opts.CIDFile != "" {
		if err := writeID(opts.CIDFile, f.ID); err != nil {
			return nil, err
		}
	}
	c.event("create", c.state)
	return c, context.Cause(ctx)
}

// image opens the image, and pulls it where it is not here.
func (e Engine) image(ctx context.Context, opts describe.Options, say func(format string, args ...any)) (layers.Image, error) {
	var platform *v1.Platform
	if opts.Platform != "" {
		var err error
		if platform, err = v1.ParsePlatform(opts.Platform); err != nil {
			return layers.Image{}, fmt.Errorf("--platform %q: %w", opts.Platform, err)
		}
	}
	if opts.Pull == "always" {
		img, err := e.Images().Pull(ctx, opts.Image, images.PullOptions{Platform: platform})
		return img.Image, err
	}
	image, err := local.Lookup(e.Dirs, opts.Image)
	if err == nil {
		img, err := layers.Open(e.Dirs, image)
		if err != nil || platform == nil || img.Config.Platform().Satisfies(*platform) {
			return img, err
		}
		if opts.Pull == "never" {
			return img, fmt.Errorf("image %s is for %s, not for %s", opts.Image, img.Config.Platform(), platform)
		}
		say("Image %s is here for %s: pulling it for %s", opts.Image, img.Config.Platform(), platform)
	} else if !errors.Is(err, local.ErrNoImage) || opts.Pull == "never" {
		return layers.Image{}, err
	} else {
		say("Unable to find image %s here: pulling it", opts.Image)
	}
	img, err := e.Images().Pull(ctx, opts.Image, images.PullOptions{Platform: platform})
	return img.Image, err
}

// writeID makes the file of --cidfile, which may not be there.
func writeID(name, id string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return advice.Add(fmt.Errorf("--cidfile: %w", err), "another container was made with it; remove it: rm %s", name)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(id)
	return errors.Join(err, f.Close())
}
