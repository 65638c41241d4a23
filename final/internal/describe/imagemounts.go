//go:build linux

package describe

import (
	"fmt"
	"os"
	"path/filepath"

	"gocker/final/internal/runtime"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/layers"
	"gocker/step04-overlay/overlay"
)

// ImageLinks are the names of links in a container's folder to the images that it has mounted: an image in use stays.
const ImageLinks = "image.*"

// Images are the references of the images that are to be mounted.
func (m Mounts) Images() (names []string, err error) {
	wishes, err := parseMounts(m)
	for _, w := range wishes {
		if w.Type == runtime.ImageType {
			names = append(names, w.Source)
		}
	}
	return names, err
}

// provideImage says in the container's folder that an image is in use, and mounts it by its folder.
func provideImage(f *overlay.FS, w *wish, img layers.Image, link string, d dirs.Dirs) error {
	folder, err := filepath.Abs(d.Image(img.ID))
	if err != nil {
		return err
	}
	lock, err := dirs.LockShared(folder) // a command that removes it waits for the link
	if err != nil {
		return advice.Add(fmt.Errorf("mount image %s: %w", w.Source, err), "the image was removed a moment ago; pull it again")
	}
	defer lock.Close()
	if err := os.Symlink(folder, filepath.Join(f.Dir, link)); err != nil {
		return err
	}
	w.Options = []string{"ro", "nodev", "name=" + w.Source}
	if w.within != "" {
		w.Options = append(w.Options, "subpath="+w.within)
	}
	w.Source = folder
	return nil
}
