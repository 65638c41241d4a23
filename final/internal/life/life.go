//go:build linux

// Package life is what containers do, and what is done to them: they are made, run, entered, stopped, removed.
package life

import (
	"gocker/final/internal/containers"
	"gocker/final/internal/images"
	"gocker/step01-pull/shared/dirs"
)

// A Life is that of the containers of one pair of folders.
type Life struct {
	Containers containers.Store
	Images     images.Store
}

// New is for the containers below d.
func New(d dirs.Dirs) Life {
	return Life{Containers: containers.Store{Dirs: d}, Images: images.Store{Dirs: d}}
}
