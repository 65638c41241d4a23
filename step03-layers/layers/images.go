//go:build linux

package layers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/renameio/v2"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
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

// A Summary is what a list of images shows of one: images/{image}/summary.json. All of it is in the config and in the
// layers' layer.json, too, but lists of a thousand images are asked for.
type Summary struct {
	Digest  string // of the config, 64 hex digits
	Created time.Time
	Size    int64             // bytes of all its files
	Labels  map[string]string `json:",omitempty"`
}

func (img Image) summary() Summary {
	s := Summary{Digest: img.Digest, Created: img.Config.Created.Time, Labels: img.Config.Config.Labels}
	for _, layer := range img.Layers {
		s.Size += layer.Files
	}
	return s
}

func (img Image) writeSummary(dir string) error {
	raw, err := json.MarshalIndent(img.summary(), "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "summary.json"), raw, 0o644)
}

// Summarize reads an image's summary, or makes it where there is none.
func Summarize(d dirs.Dirs, image string) (s Summary, err error) {
	raw, err := os.ReadFile(filepath.Join(d.Image(image), "summary.json"))
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	if err == nil {
		return s, nil
	}
	img, err := Open(d, image)
	if err != nil {
		return s, err
	}
	return img.summary(), nil
}

// Lookup returns the {image} that ref names here, or ErrNoImage. A name that no image has may be the beginning of a
// config's digest, if no other begins so: "2e2d", "2e2dc2d51ba6", "sha256:2e2d…".
func Lookup(d dirs.Dirs, ref pull.Reference) (string, error) {
	images, err := List(d)
	if err != nil {
		return "", err
	}
	if image, ok := images[ref.Name][ref.Tag]; ok {
		return image, nil
	}
	ids, err := beginWith(d, ref)
	if err != nil {
		return "", err
	}
	switch len(ids) {
	case 1:
		return ids[0], nil
	case 0:
		return "", advice.Add(fmt.Errorf("%w: %q", ErrNoImage, ref), "to fetch it: gocker pull %s", ref)
	}
	return "", advice.Add(fmt.Errorf("%w: the ids of %d begin with %q", ErrNoImage, len(ids), ref.Name), "give more digits")
}

// beginWith lists the images that ref may be the beginning of the id of.
func beginWith(d dirs.Dirs, ref pull.Reference) (ids []string, err error) {
	digits := ref.Name
	if ref.Name == "sha256" {
		digits = ref.Tag
	} else if ref.Tag != "latest" {
		return nil, nil
	}
	if strings.Trim(digits, "0123456789abcdef") != "" {
		return nil, nil // it has something else in it
	}
	if info, err := os.Stat(d.Image(digits)); pull.IsImage(digits) && err == nil && info.IsDir() {
		return []string{digits}, nil // whatever is in it
	}
	// The whole digest is the name of the config.
	configs, err := dirs.Glob(d.Images(), dirs.Short(digits)+"*/"+digits+"*.json")
	for _, config := range configs {
		if id := filepath.Base(filepath.Dir(config)); pull.IsImage(id) && strings.HasPrefix(filepath.Base(config), id) {
			ids = append(ids, id)
		}
	}
	return slices.Compact(ids), err
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
	return renameio.WriteFile(d.ImagesJSON(), append(raw, '\n'), 0o644,
		renameio.WithStaticPermissions(0o644), renameio.WithTempDir(d.Images()))
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
	images, err := List(d)
	if err != nil {
		return nil, nil, err
	}
	_, byName := images[ref.Name][ref.Tag]
	names := 0
	for name, tags := range images {
		for tag, id := range tags {
			if id != image {
				continue
			}
			names++
			if !byName || name == ref.Name && tag == ref.Tag {
				untagged = append(untagged, spell(name, tag))
			}
		}
	}
	slices.Sort(untagged)
	if !byName && names > 1 && !force {
		return nil, nil, advice.Add(fmt.Errorf("image %s is %w: it has the names %s", image, ErrInUse, strings.Join(untagged, ", ")),
			"remove them by name, or all at once: rmi -f %s", image)
	}
	last := len(untagged) == names
	if last {
		// Whoever makes a container of it holds this lock until the container says so on disk.
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
	digest := image // if even the config is gone
	if configs, err := dirs.Glob(d.Image(image), image+strings.Repeat("?", 52)+".json"); err == nil && len(configs) == 1 {
		digest = strings.TrimSuffix(filepath.Base(configs[0]), ".json")
	}
	if err := dirs.RemoveAll(d.Image(image)); err != nil {
		return untagged, nil, err
	}
	layers, err := removeUnused(d)
	for i, chainID := range layers {
		layers[i] = "sha256:" + chainID
	}
	return untagged, append([]string{"sha256:" + digest}, layers...), err
}

// Untag takes the name ref off its image, which stays.
func Untag(d dirs.Dirs, ref pull.Reference) error {
	images, err := List(d)
	if err != nil {
		return err
	}
	if _, ok := images[ref.Name][ref.Tag]; !ok {
		return fmt.Errorf("%w of the name %q", ErrNoImage, ref)
	}
	return untag(d, []string{spell(ref.Name, ref.Tag)})
}

// untag removes names, as spell writes them, from images.json.
func untag(d dirs.Dirs, names []string) error {
	return change(d, func(images map[string]map[string]string) {
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
	links, err := dirs.Links(d.Containers(), "*/image")
	for link, target := range links {
		if filepath.Base(target) == image {
			ids = append(ids, filepath.Base(filepath.Dir(link)))
		}
	}
	slices.Sort(ids)
	return ids, err
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
