//go:build linux

// Package engine is what the command line works with: one pair of folders, and the rooms for what lies below them.
package engine

import (
	"gocker/final/internal/containers"
	"gocker/final/internal/events"
	"gocker/final/internal/images"
	"gocker/final/internal/life"
	"gocker/final/internal/look"
	"gocker/final/internal/networks"
	"gocker/final/internal/volumes"
	"gocker/step01-pull/shared/dirs"
)

// An Engine is one pair of folders.
type Engine struct{ Dirs dirs.Dirs }

// Events are what happened to containers, images and volumes.
func (e Engine) Events() events.Log { return events.Log{Dirs: e.Dirs} }

// Volumes are those that containers may have.
func (e Engine) Volumes() volumes.Store { return volumes.Store{Dirs: e.Dirs} }

// Networks are those that containers may be on.
func (e Engine) Networks() networks.Store { return networks.Store{Dirs: e.Dirs} }

// Images are those that containers are made of.
func (e Engine) Images() images.Store { return images.Store{Dirs: e.Dirs} }

// Containers are those that are here.
func (e Engine) Containers() containers.Store { return containers.Store{Dirs: e.Dirs} }

// Look tells what is here.
func (e Engine) Look() look.Look {
	return look.Look{Containers: e.Containers(), Images: e.Images(), Volumes: e.Volumes(), Networks: e.Networks()}
}

// Life is what containers do.
func (e Engine) Life() life.Life { return life.New(e.Dirs) }
