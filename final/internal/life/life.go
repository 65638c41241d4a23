//go:build linux

// Package life makes, runs, enters, stops and removes containers.
package life

import (
	"gocker/final/internal/containers"
	"gocker/final/internal/images"
	"gocker/step01-pull/shared/dirs"
)

// A Life works on the containers of one pair of folders.
type Life struct {
	Containers containers.Store
	Images     images.Store
}

// New is for the containers below d.
func New(d dirs.Dirs) Life {
	return Life{Containers: containers.Store{Dirs: d}, Images: images.Store{Dirs: d}}
}
