//go:build linux

package local

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/leftover"
)

// Remove takes the name ref off its image, and removes the image with the last of its names, and every layer that no
// other image has. It returns what it did: names, and digests of configs and chainIDs. An image that a container uses is
// ErrInUse; so is one that is named by its id and has several names. With force the first loses its name and stays, and the
// second loses all its names.
func Remove(d dirs.Dirs, ref pull.Reference, force bool) (untagged []string, deleted []string, err error) {
	if err := os.MkdirAll(d.Layers(), 0o700); err != nil {
		return nil, nil, err
	}
	store, err := dirs.Lock(d.Layers())
	if err != nil {
		return nil, nil, err
	}
	defer store.Close()
	image, err := Lookup(d, ref)
	if err != nil {
		return nil, nil, err
	}
	images, err := layers.List(d)
	if err != nil {
		return nil, nil, err
	}
	names := namesOf(images, image)
	untagged = names
	_, byName := images[ref.Name][ref.Tag]
	if byName {
		untagged = []string{spell(ref.Name, ref.Tag)}
	} else if len(names) > 1 && !force {
		return nil, nil, advice.Add(fmt.Errorf("image %s is %w: it has the names %s", image, ErrInUse, strings.Join(names, ", ")),
			"remove them by name, or all at once: rmi -f %s", image)
	}
	last := len(untagged) == len(names)
	if last {
		// A command that makes a container of it holds this lock until the container says so on disk.
		lock, err := dirs.Lock(d.Image(image))
		if err != nil {
			return nil, nil, err
		}
		defer lock.Close()
		users, err := Users(d, image)
		if err != nil {
			return nil, nil, err
		}
		if len(users) > 0 {
			if byName && force {
				return untagged, nil, untag(d, untagged)
			}
			return nil, nil, advice.Add(fmt.Errorf("image %s (%s) is %w by container %s", ref, image, ErrInUse, strings.Join(users, ", ")),
				"remove the container first; to take only the name off: rmi -f %s", ref)
		}
	}
	if err := untag(d, untagged); err != nil || !last {
		return untagged, nil, err
	}
	deleted, err = removeImage(d, image)
	return untagged, deleted, err
}

// removeImage removes an image that has no name any more, and the layers that were its alone. The caller holds layers/.
func removeImage(d dirs.Dirs, image string) (deleted []string, err error) {
	digest := image // if even the config is gone
	if configs, err := dirs.Glob(d.Image(image), image+strings.Repeat("?", 52)+".json"); err == nil && len(configs) == 1 {
		digest = strings.TrimSuffix(filepath.Base(configs[0]), ".json")
	}
	if err := dirs.RemoveAll(d.Image(image)); err != nil {
		return nil, err
	}
	deleted = []string{"sha256:" + digest}
	unused, err := leftover.RemoveUnused(d)
	for _, chainID := range unused {
		deleted = append(deleted, "sha256:"+chainID)
	}
	return deleted, err
}

// namesOf are the names of an image, as spell writes them, sorted.
func namesOf(images map[string]map[string]string, image string) (names []string) {
	for name, tags := range images {
		for tag, id := range tags {
			if id == image {
				names = append(names, spell(name, tag))
			}
		}
	}
	slices.Sort(names)
	return names
}

// untag removes names, as spell writes them, from images.json.
func untag(d dirs.Dirs, names []string) error {
	return layers.Change(d, func(images map[string]map[string]string) {
		for name, tags := range images {
			for tag := range tags {
				if slices.Contains(names, spell(name, tag)) {
					delete(tags, tag)
				}
			}
			if len(tags) == 0 {
				delete(images, name)
			}
		}
	})
}

// spell is how a key of images.json is written as a reference.
func spell(name, tag string) string {
	if strings.Contains(tag, ":") {
		return name + "@" + tag
	}
	return name + ":" + tag
}

// Users lists the containers that are made of an image. It fails if it cannot look at all of them.
func Users(d dirs.Dirs, image string) (ids []string, err error) {
	for _, containers := range []string{d.Containers(), d.AllLasting()} {
		links, linksErr := dirs.Links(containers, "*/image*") // "image.1" is one that it has mounted, beside its own
		for link, target := range links {
			if filepath.Base(target) == image {
				ids = append(ids, filepath.Base(filepath.Dir(link)))
			}
		}
		err = errors.Join(err, linksErr)
	}
	slices.Sort(ids)
	return slices.Compact(ids), err
}
