//go:build linux

package engine

import (
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/final/internal/images"
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
	spec, err := e.readSpec(s.ID)
	if err != nil {
		return nil, err
	}
	var changes []ContainerChange
	err = f.LookAside(func() error {
		all, _, err := splitChanges(f, spec.Mounts)
		if err == nil {
			changes, err = lookAt(all, f, img)
		}
		return err
	})
	return changes, err
}

// lookAt looks at what is changed.
func lookAt(all []overlay.Change, f *overlay.FS, img layers.Image) (changes []ContainerChange, err error) {
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
		if overlay.Moved(err) {
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

// splitChanges tells what a container changed from targets, which gocker made to mount something on: those, and the
// folders around them that are but for that as the image has them.
func splitChanges(f *overlay.FS, mounts []specs.Mount) (changes []overlay.Change, targets []string, err error) {
	all, err := f.Changes()
	if err != nil {
		return nil, nil, err
	}
	hasTarget, hasChange := map[string]bool{}, map[string]bool{}
	for _, c := range slices.Backward(all) { // a folder after what is in it
		at := filepath.Join(f.Upperdir(), c.Path)
		isTarget := false
		switch {
		case hasChange[c.Path]:
		case c.Kind == 'A' && slices.ContainsFunc(mounts, func(m specs.Mount) bool { return m.Destination == c.Path }):
			info, err := os.Lstat(at)
			if err != nil && !overlay.Moved(err) {
				return nil, nil, err
			}
			isTarget = err == nil && (info.IsDir() || info.Mode().IsRegular() && info.Size() == 0)
		case hasTarget[c.Path] && c.Kind == 'A':
			isTarget = true
		case hasTarget[c.Path] && c.Kind == 'C':
			if isTarget, err = images.IsSame(filepath.Join(f.Lower[c.Below], c.Path), at, images.IsAs); err != nil && !overlay.Moved(err) {
				return nil, nil, err
			}
		}
		if isTarget {
			hasTarget[path.Dir(c.Path)] = true
			targets = append(targets, c.Path[1:])
		} else {
			hasChange[path.Dir(c.Path)] = true
			changes = append(changes, c)
		}
	}
	slices.Reverse(changes)
	return changes, targets, nil
}
