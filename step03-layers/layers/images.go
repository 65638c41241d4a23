//go:build linux

package layers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/renameio/v2"

	"gocker/step01-pull/advice"
	"gocker/step01-pull/dirs"
	"gocker/step01-pull/pull"
	"gocker/step02-untar/untar"
)

// What can be wrong with the name of an image that should be here.
var (
	ErrNoImage = errors.New("no such image here")
	ErrInUse   = errors.New("in use")
)

// List reads images.json: name -> tag -> {image}. A missing file is an empty list, a damaged one is ErrDamaged.
func List(d dirs.Dirs) (map[string]map[string]string, error) {
	images := map[string]map[string]string{}
	raw, err := os.ReadFile(d.ImagesJSON())
	if errors.Is(err, os.ErrNotExist) {
		return images, nil
	}
	if err == nil {
		if err = json.Unmarshal(raw, &images); err == nil && images == nil {
			err = errors.New("it is null")
		}
		if err == nil {
			for name, tags := range images {
				for tag, image := range tags {
					if !pull.IsImage(image) {
						err = fmt.Errorf("%s:%s is %q, which is no image", name, tag, image)
					}
				}
			}
		}
		if err != nil {
			err = advice.Add(fmt.Errorf("read %q: %w: %w", d.ImagesJSON(), ErrDamaged, err),
				"nothing is changed while it is damaged: mend it, or move it away and pull the images again")
		}
	}
	return images, err
}

// Lookup returns the {image} that ref names here, or ErrNoImage. A name that no image has may be an {image}.
func Lookup(d dirs.Dirs, ref pull.Reference) (string, error) {
	images, err := List(d)
	if err != nil {
		return "", err
	}
	if image, ok := images[ref.Name][ref.Tag]; ok {
		return image, nil
	}
	if pull.IsImage(ref.Name) && ref.Tag == "latest" {
		if _, err := os.Stat(d.Image(ref.Name)); err == nil {
			return ref.Name, nil
		}
	}
	return "", advice.Add(fmt.Errorf("%w: %q", ErrNoImage, ref), "to fetch it: gocker pull %s", ref)
}

// change edits images.json under its lock, and replaces it in one piece.
func change(d dirs.Dirs, edit func(images map[string]map[string]string)) error {
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
	// What a crash left while the file was written: we hold the lock, so nobody is writing one now.
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
	return renameio.WriteFile(d.ImagesJSON(), append(raw, '\n'), 0o644, renameio.WithStaticPermissions(0o644))
}

// Tag gives an image more names. One that another image had is that one's no more.
func Tag(d dirs.Dirs, image string, refs ...pull.Reference) error {
	if len(refs) == 0 {
		return nil
	}
	return change(d, func(images map[string]map[string]string) {
		for _, ref := range refs {
			if images[ref.Name] == nil {
				images[ref.Name] = map[string]string{}
			}
			images[ref.Name][ref.Tag] = image
		}
	})
}

// Get opens the image that ref names, and pulls it where it is not here; say is told of each step on the way.
func Get(ctx context.Context, d dirs.Dirs, ref pull.Reference, say func(format string, args ...any)) (Image, error) {
	image, err := Lookup(d, ref)
	if err == nil {
		return Open(d, image)
	}
	if !errors.Is(err, ErrNoImage) {
		return Image{}, err
	}
	say("There is no image %s yet: pulling and unpacking it, as step01 to step03 do", ref)
	return Pull(ctx, d, ref, nil)
}

// Pull goes the whole road of the first three steps: registry, package.tar, files, layers. It is for platform, nil
// for this machine's.
func Pull(ctx context.Context, d dirs.Dirs, ref pull.Reference, platform *v1.Platform) (Image, error) {
	img, err := pull.Image(ctx, ref, platform)
	if err != nil {
		return Image{}, err
	}
	image, lock, err := pull.Save(d, ref, img)
	if err != nil {
		return Image{}, err
	}
	defer lock.Close()
	added, err := Image{}, untar.Package(d, image)
	if err == nil {
		added, err = Add(d, ref, image)
	}
	if err != nil {
		os.RemoveAll(d.Tmp(image))
	}
	return added, err
}

// Remove takes the name ref off its image, and removes the image with the last of its names, and every layer that no
// other image has. It returns what it did. An image that a container uses is ErrInUse.
func Remove(d dirs.Dirs, ref pull.Reference) (untagged []string, deleted []string, err error) {
	if err := os.MkdirAll(d.Layers(), 0o755); err != nil {
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
	images, err := List(d)
	if err != nil {
		return nil, nil, err
	}
	byID := ref.Name == image
	names := 0
	for name, tags := range images {
		for tag, id := range tags {
			if id != image {
				continue
			}
			names++
			if byID || name == ref.Name && tag == ref.Tag {
				untagged = append(untagged, spell(name, tag))
			}
		}
	}
	if byID && names > 1 {
		return nil, nil, advice.Add(fmt.Errorf("image %s %w: it has %d names", image, ErrInUse, names), "remove them by name")
	}
	last := names <= 1
	if last {
		// Whoever makes a container of it holds this lock until the container says so on disk.
		lock, err := dirs.Lock(d.Image(image))
		if err != nil {
			return nil, nil, err
		}
		defer lock.Close()
		if users := Users(d, image); len(users) > 0 {
			return nil, nil, advice.Add(fmt.Errorf("image %s (%s) is %w by container %s", ref, image, ErrInUse, strings.Join(users, ", ")),
				"end the container first")
		}
	}
	err = change(d, func(images map[string]map[string]string) {
		for name, tags := range images {
			for tag := range tags {
				if byID && tags[tag] == image || name == ref.Name && tag == ref.Tag {
					delete(tags, tag)
				}
			}
			if len(tags) == 0 {
				delete(images, name)
			}
		}
	})
	if err != nil || !last {
		return untagged, nil, err
	}
	if err := dirs.RemoveAll(d.Image(image)); err != nil {
		return untagged, nil, err
	}
	layers, err := removeUnused(d)
	return untagged, append([]string{image}, layers...), err
}

// spell is how a key of images.json is written as a reference.
func spell(name, tag string) string {
	if strings.Contains(tag, ":") {
		return name + "@" + tag
	}
	return name + ":" + tag
}

// Users lists the containers that are made of an image.
func Users(d dirs.Dirs, image string) (ids []string) {
	links, _ := dirs.Glob(d.Containers(), "*/image") // the pattern is well formed
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && filepath.Base(target) == image {
			ids = append(ids, filepath.Base(filepath.Dir(link)))
		}
	}
	return ids
}

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
	_, err = removeUnused(d)
	return err
}

// RemoveUnused removes the layers that no image links to: a crash has left them.
func RemoveUnused(d dirs.Dirs) (removed []string, err error) {
	if err := os.MkdirAll(d.Layers(), 0o755); err != nil {
		return nil, err
	}
	store, err := dirs.Lock(d.Layers())
	if err != nil {
		return nil, err
	}
	defer store.Close()
	return removeUnused(d)
}

// removeUnused removes the layers that no image links to, also those that a crash has left. The caller holds layers/.
func removeUnused(d dirs.Dirs) (removed []string, err error) {
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
	links, err := dirs.Glob(d.Images(), "*/*")
	if err != nil {
		return nil, err
	}
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil {
			used[filepath.Base(target)] = true
		}
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
