//go:build linux

package layers

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/google/renameio/v2"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
)

// List reads images.json: name -> tag -> {image}. A missing file is an empty list, a damaged one is ErrDamaged.
func List(d dirs.Dirs) (map[string]map[string]string, error) {
	images := map[string]map[string]string{}
	raw, err := os.ReadFile(d.ImagesJSON())
	if errors.Is(err, os.ErrNotExist) {
		return images, nil
	}
	if err == nil {
		if err = dirs.ParseJSON(raw, &images); err == nil && images == nil {
			err = errors.New("it is null")
		}
		if err == nil {
			err = onlyImages(images)
		}
		if err != nil {
			err = advice.Add(fmt.Errorf("read %q: %w: %w", d.ImagesJSON(), ErrDamaged, err),
				"nothing is changed while it is damaged: mend it, or move it away and pull the images again")
		}
	}
	return images, err
}

// onlyImages fails where a name is none of an image.
func onlyImages(images map[string]map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(images)) {
		for _, tag := range slices.Sorted(maps.Keys(images[name])) {
			if image := images[name][tag]; !dirs.IsImage(image) {
				return fmt.Errorf("%s:%s is %q, which is no image", name, tag, image)
			}
		}
	}
	return nil
}

// Change edits images.json under its lock, and replaces it in one piece.
func Change(d dirs.Dirs, edit func(images map[string]map[string]string)) error {
	lock, err := dirs.Lock(d.Images())
	if err != nil {
		return err
	}
	defer lock.Close()
	images, err := List(d)
	if err != nil {
		return err
	}
	edit(images)
	// The remains of a crash while the file was written: we hold the lock, so no command is writing one now.
	unfinished, err := dirs.Glob(d.Images(), ".images.json*")
	if err != nil {
		return err
	}
	for _, file := range unfinished {
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	raw, err := json.MarshalIndent(images, "", "\t")
	if err != nil {
		return err
	}
	return renameio.WriteFile(d.ImagesJSON(), append(raw, '\n'), 0o644,
		renameio.WithStaticPermissions(0o644), renameio.WithTempDir(d.Images()))
}

// Tag gives an image more names. One that another image had is that one's no more.
func Tag(d dirs.Dirs, image string, refs ...pull.Reference) error {
	if len(refs) == 0 {
		return nil
	}
	return Change(d, func(images map[string]map[string]string) {
		for _, ref := range refs {
			if images[ref.Name] == nil {
				images[ref.Name] = map[string]string{}
			}
			images[ref.Name][ref.Tag] = image
		}
	})
}
