//go:build linux

// Package leftover removes what crashes have left, and layers that no image has.
//
//	.partial-… in layers/, images/ or tmp/   nobody locks it: its command is gone
//	layers/{chainID}                         no link in images/ leads to it
//
// A command that brings an image in holds layers/ shared while it makes its links: see package layers. So a layer on its way
// in is never taken for one of these.
package leftover

import (
	"errors"
	"os"
	"path/filepath"

	"gocker/step01-pull/shared/dirs"
)

// Sweep removes what crashes have left: unfinished folders that nobody is at work on, and layers that no image links to,
// unless somebody is at work there just now.
func Sweep(d dirs.Dirs) error {
	for _, parent := range []string{d.Layers(), d.Images(), d.AllTmp()} {
		if err := dirs.RemoveStale(parent); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	store, err := dirs.TryLock(d.Layers())
	if errors.Is(err, dirs.ErrLocked) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer store.Close()
	_, err = RemoveUnused(d)
	return err
}

// RemoveUnused removes the layers that no image links to, also those that a crash has left. The caller holds layers/.
func RemoveUnused(d dirs.Dirs) (removed []string, err error) {
	unused, err := Unused(d)
	if err != nil {
		return nil, err
	}
	for _, chainID := range unused {
		if err := dirs.RemoveAll(d.Layer(chainID)); err != nil {
			return removed, err
		}
		removed = append(removed, chainID)
	}
	return removed, nil
}

// Unused lists the chainIDs, of 64 digits, of the layers that no image links to. The caller holds layers/, else an image
// on its way in may be overlooked.
func Unused(d dirs.Dirs) (unused []string, err error) {
	used := map[string]bool{}
	links, err := dirs.Links(d.Images(), "*/*")
	if err != nil {
		return nil, err
	}
	for _, target := range links {
		used[filepath.Base(target)] = true
	}
	entries, err := os.ReadDir(d.Layers())
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if len(e.Name()) == 64 && !used[e.Name()] {
			unused = append(unused, e.Name())
		}
	}
	return unused, nil
}
