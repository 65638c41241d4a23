//go:build linux

package look

import (
	"os"
	"path/filepath"

	"gocker/final/internal/aside"
	"gocker/final/internal/containers"
	"gocker/step03-layers/layers"
	"gocker/step04-overlay/overlay"
)

// A Change is one name that a container changed, and where the original is.
type Change struct {
	overlay.Change
	Type     string       // the first letter of ls -l: -, d, l, …; if it is deleted, the original's
	Size     int64        // bytes of a file
	Original layers.Layer // empty if it is added
}

// Changes lists what a container changed, sorted by name.
func (look Look) Changes(name string) ([]Change, error) {
	s, err := look.Containers.Find(name)
	if err != nil {
		return nil, err
	}
	img, err := look.Containers.ImageOf(s.ID)
	if err != nil {
		return nil, err
	}
	f, err := look.Containers.View(s.ID)
	if err != nil {
		return nil, err
	}
	spec, err := look.Containers.ReadSpec(s.ID)
	if err != nil {
		return nil, err
	}
	var changes []Change
	err = aside.Look(f, func() error {
		all, _, err := containers.SplitChanges(f, spec.Mounts)
		if err == nil {
			changes, err = lookAt(all, f, img)
		}
		return err
	})
	return changes, err
}

// lookAt looks at what is changed.
func lookAt(all []overlay.Change, f *overlay.FS, img layers.Image) (changes []Change, err error) {
	for _, c := range all {
		change := Change{Change: c}
		info := c.Info
		if c.Below >= 0 {
			change.Original = img.Layers[c.Below]
			if c.Kind == 'D' {
				if info, err = os.Lstat(filepath.Join(f.Lower[c.Below], c.Path)); err != nil {
					return nil, err
				}
			}
		}
		change.Type = info.Mode().Type().String()[:1]
		if info.Mode().IsRegular() {
			change.Size = info.Size()
		}
		changes = append(changes, change)
	}
	return changes, nil
}
