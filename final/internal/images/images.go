//go:build linux

// Package images holds the images that are here: pulled, pushed, loaded, saved, listed, checked, removed.
package images

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"gocker/final/internal/events"
	"gocker/final/internal/filter"
	"gocker/final/internal/store"
	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/local"
)

// A Store is the images of one pair of folders.
type Store struct {
	Dirs dirs.Dirs

	// Get calls Watch when it begins to pull an image. progress hears of the layers, as PullOptions has it, and end of the
	// outcome. nil: nobody watches.
	Watch func(ref pull.Reference) (progress func(layer v1.Descriptor, done int64), end func(Pulled, error))
}

// Note notes what happens to an image. Events of registries name it by its name, all others by its digest.
func (s Store) Note(action string, img layers.Image, id, name string) {
	events.Log{Dirs: s.Dirs}.Note("image", action, id, img.Config.Config.Labels, "name", name)
}

// LeftOut has a line for each layer that was just unpacked without all its files: the file system has no place for them, or only
// root may make them.
func LeftOut(img layers.Image) (lines []string) {
	for _, layer := range img.Layers {
		if layer.LeftOut != "" {
			lines = append(lines, fmt.Sprintf("layer %s: left out %s: the file system of the images has no place for it, or only root may make it", layer.Digest, layer.LeftOut))
		}
	}
	return lines
}

// Names are the names that images have here: {"alpine": {"latest": "{image}"}, …}.
func (s Store) Names() (map[string]map[string]string, error) { return layers.List(s.Dirs) }

// A Named image is a row of "gocker images".
type Named struct {
	store.Summary
	Repository, Tag string
	ID              string   // {image}
	Digests         []string // what registries call it: the manifest's, or the index's
}

// none is docker's word for a missing name.
const none = "<none>"

// List lists the images that are here and that pass all filters, the newest first: a row for each name, and one for an
// image that has none. Filters are docker's: reference=PATTERN, dangling=true|false, before=IMAGE, since=IMAGE,
// label=KEY[=VALUE]. Digests are read only if they are wanted. An error names the images that cannot be read. All others
// are in the list.
func (s Store) List(filters []string, digests bool) ([]Named, error) {
	passes, err := s.filter(filters)
	if err != nil {
		return nil, err
	}
	names, err := layers.List(s.Dirs)
	if err != nil {
		return nil, err
	}
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	var images []Named
	named := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		for _, tag := range slices.Sorted(maps.Keys(names[name])) {
			row := Named{Repository: name, Tag: tag, ID: names[name][tag]}
			named[row.ID] = true
			if strings.HasPrefix(tag, "sha256:") {
				row.Tag, row.Digests = none, []string{tag}
			}
			images = append(images, row)
		}
	}
	for _, id := range ids {
		if !named[id] {
			images = append(images, Named{Repository: none, Tag: none, ID: id})
		}
	}
	kept := images[:0]
	var unread []error
	for _, row := range images {
		here, err := true, error(nil)
		if row.Summary, err = store.Summarize(s.Dirs, row.ID); err != nil {
			row.Summary, here, err = s.heldSummary(row.ID)
		}
		if err == nil && here && digests && row.Digests == nil {
			row.Digests, err = s.digestsIn(row.ID, row.Repository)
		}
		switch {
		case err != nil:
			unread = append(unread, fmt.Errorf("image %s: %w", row.ID, err))
		case here && passes(row): // else somebody has removed it just now
			kept = append(kept, row)
		}
	}
	slices.SortStableFunc(kept, func(a, b Named) int { return b.Created.Compare(a.Created) })
	return kept, errors.Join(unread...)
}

// heldSummary reads a summary while nobody can remove the image, or put another in its place.
func (s Store) heldSummary(id string) (summary store.Summary, here bool, err error) {
	lock, err := dirs.LockShared(s.Dirs.Image(id))
	if errors.Is(err, os.ErrNotExist) {
		return summary, false, nil
	}
	if err != nil {
		return summary, false, err
	}
	defer lock.Close()
	summary, err = store.Summarize(s.Dirs, id)
	return summary, true, err
}

// digestsIn are the digests that an image has in a repository.
func (s Store) digestsIn(id, repository string) (digests []string, err error) {
	origins, err := s.origins(id)
	for _, origin := range origins {
		if ref, err := pull.ParseReference(origin.Reference); err == nil && ref.Name == repository {
			digests = append(digests, origin.Digest)
		}
	}
	slices.Sort(digests)
	return slices.Compact(digests), err
}

// filter reads docker's filters. Those of one kind are alternatives, but for labels: an image has to have all.
func (s Store) filter(filters []string) (passes func(Named) bool, err error) {
	var patterns []string
	var all []func(Named) bool
	for _, f := range filters {
		key, value, _ := strings.Cut(f, "=")
		switch key {
		case "reference":
			if _, err := path.Match(value, ""); err != nil {
				return nil, fmt.Errorf("filter %q: %w", f, err)
			}
			patterns = append(patterns, value)
		case "dangling":
			want, err := strconv.ParseBool(value)
			if err != nil {
				return nil, fmt.Errorf("filter %q: %w", f, err)
			}
			all = append(all, func(i Named) bool { return (i.Repository == none) == want })
		case "label":
			all = append(all, func(i Named) bool { return filter.HasLabel(i.Labels, value) })
		case "before", "since":
			other, err := s.summary(value)
			if err != nil {
				return nil, fmt.Errorf("filter %q: %w", f, err)
			}
			order := map[string]int{"before": -1, "since": 1}[key]
			all = append(all, func(i Named) bool { return i.Created.Compare(other.Created) == order })
		default:
			return nil, advice.Add(fmt.Errorf("filter %q: there is none of this name", f),
				"filters are reference=, dangling=, before=, since=, label=")
		}
	}
	if patterns != nil {
		all = append(all, func(i Named) bool {
			return slices.ContainsFunc(patterns, func(pattern string) bool {
				short := strings.TrimPrefix(i.Repository, localPrefix)
				return slices.ContainsFunc([]string{i.Repository, i.Repository + ":" + i.Tag, short, short + ":" + i.Tag}, func(name string) bool {
					matches, _ := path.Match(pattern, name)
					return matches
				})
			})
		})
	}
	return func(i Named) bool {
		return !slices.ContainsFunc(all, func(pass func(Named) bool) bool { return !pass(i) })
	}, nil
}

func (s Store) summary(name string) (_ store.Summary, err error) {
	ref, err := pull.ParseReference(name)
	if err != nil {
		return store.Summary{}, err
	}
	id, err := s.Lookup(ref)
	if err != nil {
		return store.Summary{}, err
	}
	return store.Summarize(s.Dirs, id)
}

// Tag gives an image another name.
func (s Store) Tag(source, name pull.Reference) error {
	if strings.HasPrefix(name.Tag, "sha256:") {
		return fmt.Errorf("tag %q: a digest cannot be chosen; a new name ends in a tag", name)
	}
	img, lock, err := s.Hold(source)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err = layers.Tag(s.Dirs, img.ID, name); err == nil {
		s.Note("tag", img, "sha256:"+img.Digest, name.String())
	}
	return err
}

// Untag takes a name off its image, which stays.
func (s Store) Untag(ref pull.Reference) error {
	ref, err := s.listed(ref)
	if err != nil {
		return err
	}
	img, openErr := s.Open(ref)
	err = store.Untag(s.Dirs, ref)
	if err == nil && openErr == nil {
		s.Note("untag", img, "sha256:"+img.Digest, "sha256:"+img.Digest)
	}
	return err
}

// UntagAll takes all names off an image, as podman does. Of an image that cannot be read, only this name is known.
func (s Store) UntagAll(ref pull.Reference) error {
	i, err := s.Inspect(ref)
	if err != nil {
		return s.Untag(ref)
	}
	for _, name := range i.RepoTags {
		ref, parseErr := pull.ParseReference(name)
		err = errors.Join(err, parseErr)
		if parseErr == nil {
			err = errors.Join(err, s.Untag(ref))
		}
	}
	return err
}

// Remove removes a name, and with its last name the image. With force an image that is named by its id loses all names, and
// a missing image is no error. An image that a container uses stays in any case.
func (s Store) Remove(ref pull.Reference, force bool) (untagged, deleted []string, err error) {
	names, err := layers.List(s.Dirs)
	if err == nil {
		ref, err = s.listed(ref)
	}
	if err != nil {
		return nil, nil, err
	}
	if strings.HasPrefix(ref.Tag, "sha256:") && names[ref.Name][ref.Tag] == "" { // one that the registry has for it
		id, err := s.Lookup(ref)
		if errors.Is(err, local.ErrNoImage) && force {
			return nil, nil, nil
		}
		if err == nil {
			ref, err = pull.ParseReference(id)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	img, openErr := s.Open(ref)
	untagged, deleted, err = local.Remove(s.Dirs, ref, force)
	if errors.Is(err, local.ErrNoImage) && force {
		return nil, nil, nil
	}
	if id := "sha256:" + img.Digest; openErr == nil { // one that is damaged can be removed, too
		for range untagged {
			s.Note("untag", img, id, id)
		}
		if slices.Contains(deleted, id) {
			s.Note("delete", img, id, id)
		}
	}
	return untagged, deleted, err
}
