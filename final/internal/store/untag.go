//go:build linux

package store

import (
	"fmt"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/local"
)

// Untag takes the name ref off its image, which stays.
func Untag(d dirs.Dirs, ref pull.Reference) error {
	found := false
	err := layers.Change(d, func(names map[string]map[string]string) {
		_, found = names[ref.Name][ref.Tag]
		delete(names[ref.Name], ref.Tag)
		if len(names[ref.Name]) == 0 {
			delete(names, ref.Name)
		}
	})
	if err == nil && !found {
		err = fmt.Errorf("%w of the name %q", local.ErrNoImage, ref)
	}
	return err
}
