//go:build linux

package life

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/final/internal/containers"
	"gocker/final/internal/describe"
	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step03-layers/layers"
	"gocker/step04-overlay/check"
	"gocker/step04-overlay/story"
)

// Create makes a container, and no process. Start starts it. say hears what Create does, and tell what it asks of the kernel.
// tell may be nil here and in the functions below.
func (life Life) Create(opts describe.Options, say func(format string, args ...any), tell story.Story) (id string, err error) {
	ctx, signals := catchSignals()
	defer signals.stop()
	c, err := life.create(ctx, opts, say, tell)
	if err != nil {
		return "", err
	}
	return c.State.Whole(), errors.Join(c.Change(func(s *containers.State) { s.Status = specs.StateCreated }), c.Close())
}

// create checks opts, and makes the container that they describe. If it fails, nothing is left.
func (life Life) create(ctx context.Context, opts describe.Options, say func(format string, args ...any), tell story.Story) (*container, error) {
	if _, err := opts.Limits.Resources(); err != nil { // before anything is pulled
		return nil, err
	}
	if err := check.Required([]check.Result{check.Privilege(), check.Proc()}); err != nil {
		return nil, fmt.Errorf("make a container: %w", err)
	}
	if err := opts.Check(); err != nil {
		return nil, err
	}
	if err := life.Containers.NameOthers(&opts.Isolation); err != nil {
		return nil, err
	}
	if err := life.nameNetworks(&opts.Network); err != nil {
		return nil, err
	}
	life.warn(opts, say)
	var lent describe.Lent
	var err error
	if lent.Points, err = life.Containers.PointsOf(opts.Mounts.From); err != nil {
		return nil, err
	}
	img, err := life.Images.Get(ctx, opts.Image, opts.Pull, opts.Platform, say)
	if err != nil {
		return nil, err
	}
	if lent.Images, err = life.mountedImages(ctx, opts, say); err != nil {
		return nil, err
	}
	if opts.Replace {
		if err := life.Remove(opts.Name, RmOptions{Force: true}); err != nil && !errors.Is(err, containers.ErrNoContainer) {
			return nil, err
		}
	}
	h, err := life.Containers.New(img, opts, lent, tell)
	if err != nil {
		return nil, err
	}
	c := &container{Held: h, life: life}
	if opts.CIDFile != "" {
		err = writeID(opts.CIDFile, c.State.Whole())
	}
	if err == nil {
		c.Note("create", c.State)
		err = context.Cause(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, c.Remove(true))
	}
	return c, nil
}

// mountedImages are the images that a container mounts. It pulls those that are missing.
func (life Life) mountedImages(ctx context.Context, opts describe.Options, say func(format string, args ...any)) (map[string]layers.Image, error) {
	names, err := opts.Mounts.Images()
	if err != nil {
		return nil, err
	}
	images := map[string]layers.Image{}
	for _, name := range names {
		ref, err := pull.ParseReference(name)
		if err != nil {
			return nil, err
		}
		if images[name], err = life.Images.Get(ctx, ref, opts.Pull, opts.Platform, say); err != nil {
			return nil, fmt.Errorf("mount image %s: %w", name, err)
		}
	}
	return images, nil
}

// writeID makes the file of --cidfile. If the file exists, that is an error.
func writeID(name, id string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return advice.Add(fmt.Errorf("--cidfile: %w", err), "the file belongs to another container; to remove it: rm %s", name)
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(id)
	return errors.Join(err, f.Close())
}
