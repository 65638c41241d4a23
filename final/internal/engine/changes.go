//go:build linux

package engine

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step03-layers/layers"
	"gocker/step04-overlay/overlay"
)

// A ContainerChange is one name that a container changed, and where the original is.
type ContainerChange struct {
	overlay.Change
	Type     string       // as ls -l begins: -, d, l, …; of what is deleted that of the original
	Size     int64        // bytes of a file
	Original layers.Layer // none of what is added
}

// Changes lists what a container changed, by the names.
func (e Engine) Changes(name string) ([]ContainerChange, error) {
	s, err := e.find(name)
	if err != nil {
		return nil, err
	}
	img, err := e.imageOf(s.ID)
	if err != nil {
		return nil, err
	}
	f, err := e.view(s.ID)
	if err != nil {
		return nil, err
	}
	all, err := f.Changes()
	if err != nil {
		return nil, err
	}
	spec, err := e.readSpec(s.ID)
	if err != nil {
		return nil, err
	}
	if all, err = withoutTargets(all, spec.Mounts, f); err != nil {
		return nil, err
	}
	var changes []ContainerChange
	for _, c := range all {
		change := ContainerChange{Change: c}
		at := filepath.Join(f.Upperdir(), c.Path)
		if c.Below >= 0 {
			change.Original = img.Layers[c.Below]
			if c.Kind == 'D' {
				at = filepath.Join(f.Lower[c.Below], c.Path)
			}
		}
		info, err := os.Lstat(at)
		if errors.Is(err, os.ErrNotExist) {
			continue // the container has changed it again
		}
		if err != nil {
			return nil, err
		}
		change.Type = info.Mode().Type().String()[:1]
		if info.Mode().IsRegular() {
			change.Size = info.Size()
		}
		changes = append(changes, change)
	}
	return changes, nil
}

// withoutTargets leaves out what gocker has made to mount something on, and the folders around it that are but for that
// as the image has them.
func withoutTargets(changes []overlay.Change, mounts []specs.Mount, f *overlay.FS) (kept []overlay.Change, err error) {
	hasTarget, hasChange := map[string]bool{}, map[string]bool{}
	for _, c := range slices.Backward(changes) { // a folder after what is in it
		isTarget := c.Kind == 'A' && slices.ContainsFunc(mounts, func(m specs.Mount) bool { return m.Destination == c.Path })
		if hasTarget[c.Path] && !hasChange[c.Path] {
			isTarget = c.Kind == 'A'
			if c.Kind == 'C' {
				if isTarget, err = isSameButForTime(filepath.Join(f.Lower[c.Below], c.Path), filepath.Join(f.Upperdir(), c.Path)); err != nil {
					return nil, err
				}
			}
		}
		if isTarget {
			hasTarget[path.Dir(c.Path)] = true
			continue
		}
		hasChange[path.Dir(c.Path)] = true
		kept = append(kept, c)
	}
	slices.Reverse(kept)
	return kept, nil
}

func isSameButForTime(a, b string) (bool, error) {
	one, err := layers.Header(a)
	if err != nil {
		return false, err
	}
	other, err := layers.Header(b)
	if err != nil {
		return false, err
	}
	return isAs(one, other), nil
}
