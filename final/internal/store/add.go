//go:build linux

// Package store is what the runtime does with the store of layers beside step 3: it unpacks layers side by side, gives
// them on as they were sent, makes new ones of folders, and compares what is there with its digests.
package store

import (
	"context"
	"encoding/json"
	"maps"
	"runtime"

	"golang.org/x/sync/errgroup"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/leftover"
)

// Add is road.Add for an image from anywhere, and unpacks its layers side by side: most entries of a layer say all
// there is to know about a file. Where one does not, the layer waits for those below. extra are more files for
// images/{image}.
func Add(ctx context.Context, d dirs.Dirs, source layers.Source, extra map[string][]byte, refs ...pull.Reference) (layers.Image, error) {
	if err := leftover.Sweep(d); err != nil {
		return layers.Image{}, err
	}
	in, err := layers.Begin(d, source)
	if err != nil {
		return layers.Image{}, err
	}
	defer in.Discard()
	if err := unpack(ctx, in); err != nil {
		return layers.Image{}, err
	}
	raw, err := json.MarshalIndent(summary(in.Image), "", "\t")
	if err != nil {
		return layers.Image{}, err
	}
	in.Extra = map[string][]byte{"summary.json": raw}
	maps.Copy(in.Extra, extra)
	if err := in.Keep(); err != nil {
		return layers.Image{}, err
	}
	return in.Image, layers.Tag(d, in.ID, refs...)
}

// unpack unpacks all layers.
func unpack(ctx context.Context, in *layers.Incoming) error {
	unpacked := make([]chan struct{}, len(in.Layers)) // closed once the layer can be looked at
	for i := range unpacked {
		unpacked[i] = make(chan struct{})
	}
	in.Wait = waitForBelow(unpacked)
	group, ctx := errgroup.WithContext(ctx)
	// The lowest begin, and they wait for nobody: so nobody waits forever for a place. Each takes some megabytes.
	group.SetLimit(min(max(2, runtime.GOMAXPROCS(0)), 4))
	for i := range in.Layers {
		group.Go(func() error {
			if err := in.Unpack(ctx, i); err != nil {
				return err
			}
			close(unpacked[i])
			return nil
		})
	}
	return group.Wait()
}

// waitForBelow is Incoming.Wait for layers that are unpacked side by side.
func waitForBelow(unpacked []chan struct{}) func(ctx context.Context, i int) error {
	return func(ctx context.Context, i int) error {
		for _, lower := range unpacked[:i] {
			select {
			case <-lower:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	}
}
