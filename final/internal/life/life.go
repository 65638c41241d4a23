//go:build linux

// Package life is what containers do, and what is done to them: they are made, run, entered, stopped, removed.
package life

import (
	"gocker/final/internal/containers"
	"gocker/final/internal/images"
	"gocker/step01-pull/shared/dirs"
	"gocker/step04-overlay/story"
)

// A Life is that of the containers of one pair of folders.
type Life struct {
	Containers containers.Store
	Images     images.Store
	Tell       story.Story // hears what is asked of the kernel for a container; may be nil
}

// New is for the containers below d.
func New(d dirs.Dirs) Life {
	return Life{Containers: containers.Store{Dirs: d}, Images: images.Store{Dirs: d}}
}
