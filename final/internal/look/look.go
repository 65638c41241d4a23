//go:build linux

// Package look tells what is here, and changes nothing of it: lists, inspections, usage, logs, reasons.
package look

import (
	"gocker/final/internal/containers"
	"gocker/final/internal/images"
	"gocker/final/internal/networks"
	"gocker/final/internal/volumes"
)

// A Look reads the containers of one pair of folders, and what they are made of.
type Look struct {
	Containers containers.Store
	Images     images.Store
	Volumes    volumes.Store
	Networks   networks.Store
}
