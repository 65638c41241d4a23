//go:build linux

package engine

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/layers"
)

// A NamedImage is a row of "gocker images".
type NamedImage struct {
	layers.Summary
	Repository, Tag string
	ID              string   // {image}
	Digests         []string // what registries call it: the manifest's, or the index's
}

// none is what docker shows where a name is missing.
const none = "<none>"

// Images lists the images that are here and that pass all filters, the newest first: a row for each name, and one for an
// image that has none. Filters are docker's: reference=PATTERN, dangling=true|false, before=IMAGE, since=IMAGE,
// label=KEY[=VALUE]. Digests are read only if they are wanted.
func (e Engine) Images(filters []string, digests bool) ([]NamedImage, error) {
	passes, err := e.imageFilter(filters)
	if err != nil {
		return nil, err
	}
	names, err := layers.List(e.Dirs)
	if err != nil {
		return nil, err
	}
	ids, err := e.imageIDs()
	if err != nil {
		return nil, err
	}
	var images []NamedImage
	named := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		for _, tag := range slices.Sorted(maps.Keys(names[name])) {
			row := NamedImage{Repository: name, Tag: tag, ID: names[name][tag]}
			named[row.ID] = true
			if strings.HasPrefix(tag, "sha256:") {
				row.Tag, row.Digests = none, []string{tag}
			}
			images = append(images, row)
		}
	}
	for _, id := range ids {
		if !named[id] {
			images = append(images, NamedImage{Repository: none, Tag: none, ID: id})
		}
	}
	kept := images[:0]
	for _, row := range images {
		if row.Summary, err = layers.Summarize(e.Dirs, row.ID); err != nil {
			here := false
			if row.Summary, here, err = e.heldSummary(row.ID); err != nil {
				return nil, err
			}
			if !here {
				continue // somebody has removed it just now
			}
		}
		if digests && row.Digests == nil {
			if row.Digests, err = e.digestsIn(row.ID, row.Repository); err != nil {
				return nil, err
			}
		}
		if passes(row) {
			kept = append(kept, row)
		}
	}
	slices.SortStableFunc(kept, func(a, b NamedImage) int { return b.Created.Compare(a.Created) })
	return kept, nil
}

// heldSummary reads a summary while nobody can remove the image, or put another in its place.
func (e Engine) heldSummary(id string) (s layers.Summary, here bool, err error) {
	lock, err := dirs.LockShared(e.Dirs.Image(id))
	if errors.Is(err, os.ErrNotExist) {
		return s, false, nil
	}
	if err != nil {
		return s, false, err
	}
	defer lock.Close()
	s, err = layers.Summarize(e.Dirs, id)
	return s, true, err
}

// digestsIn are the digests that an image has in a repository.
func (e Engine) digestsIn(id, repository string) (digests []string, err error) {
	origins, err := e.origins(id)
	for _, origin := range origins {
		if ref, err := pull.ParseReference(origin.Reference); err == nil && ref.Name == repository {
			digests = append(digests, origin.Digest)
		}
	}
	slices.Sort(digests)
	return slices.Compact(digests), err
}

// imageFilter reads docker's filters. Those of one kind are alternatives, but for labels: an image has to have all.
func (e Engine) imageFilter(filters []string) (passes func(NamedImage) bool, err error) {
	var patterns []string
	var all []func(NamedImage) bool
	for _, filter := range filters {
		key, value, _ := strings.Cut(filter, "=")
		switch key {
		case "reference":
			if _, err := path.Match(value, ""); err != nil {
				return nil, fmt.Errorf("filter %q: %w", filter, err)
			}
			patterns = append(patterns, value)
		case "dangling":
			want, err := strconv.ParseBool(value)
			if err != nil {
				return nil, fmt.Errorf("filter %q: %w", filter, err)
			}
			all = append(all, func(i NamedImage) bool { return (i.Repository == none) == want })
		case "label":
			name, text, exact := strings.Cut(value, "=")
			all = append(all, func(i NamedImage) bool {
				got, ok := i.Labels[name]
				return ok && (!exact || got == text)
			})
		case "before", "since":
			other, err := e.summary(value)
			if err != nil {
				return nil, fmt.Errorf("filter %q: %w", filter, err)
			}
			order := map[string]int{"before": -1, "since": 1}[key]
			all = append(all, func(i NamedImage) bool { return i.Created.Compare(other.Created) == order })
		default:
			return nil, advice.Add(fmt.Errorf("filter %q: there is none of this name", filter),
				"filters are reference=, dangling=, before=, since=, label=")
		}
	}
	if patterns != nil {
		all = append(all, func(i NamedImage) bool {
			return slices.ContainsFunc(patterns, func(pattern string) bool {
				byName, _ := path.Match(pattern, i.Repository)
				byTag, _ := path.Match(pattern, i.Repository+":"+i.Tag)
				return byName || byTag
			})
		})
	}
	return func(i NamedImage) bool {
		return !slices.ContainsFunc(all, func(pass func(NamedImage) bool) bool { return !pass(i) })
	}, nil
}

func (e Engine) summary(name string) (s layers.Summary, err error) {
	ref, err := pull.ParseReference(name)
	if err != nil {
		return s, err
	}
	id, err := e.Lookup(ref)
	if err != nil {
		return s, err
	}
	return layers.Summarize(e.Dirs, id)
}

// Tag gives an image another name.
func (e Engine) Tag(source, name pull.Reference) error {
	if strings.HasPrefix(name.Tag, "sha256:") {
		return fmt.Errorf("tag %q: a digest cannot be chosen; a new name ends in a tag", name)
	}
	img, lock, err := e.hold(source)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err = layers.Tag(e.Dirs, img.ID, name); err == nil {
		e.imageEvent("tag", img, "sha256:"+img.Digest, name.String())
	}
	return err
}

// Untag takes a name off its image, which stays.
func (e Engine) Untag(ref pull.Reference) error {
	img, openErr := e.open(ref)
	err := layers.Untag(e.Dirs, ref)
	if err == nil && openErr == nil {
		e.imageEvent("untag", img, "sha256:"+img.Digest, "sha256:"+img.Digest)
	}
	return err
}

// Rmi removes a name, and with its last name the image. With force an image that is named by its id loses all names, and
// one that is not here is no error. One that a container uses stays in any case.
func (e Engine) Rmi(ref pull.Reference, force bool) (untagged, deleted []string, err error) {
	names, err := layers.List(e.Dirs)
	if err != nil {
		return nil, nil, err
	}
	if strings.HasPrefix(ref.Tag, "sha256:") && names[ref.Name][ref.Tag] == "" { // one that the registry has for it
		id, err := e.Lookup(ref)
		if errors.Is(err, layers.ErrNoImage) && force {
			return nil, nil, nil
		}
		if err == nil {
			ref, err = pull.ParseReference(id)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	img, openErr := e.open(ref)
	untagged, deleted, err = layers.Remove(e.Dirs, ref, force)
	if errors.Is(err, layers.ErrNoImage) && force {
		return nil, nil, nil
	}
	if id := "sha256:" + img.Digest; openErr == nil { // one that is damaged can be removed, too
		for range untagged {
			e.imageEvent("untag", img, id, id)
		}
		if slices.Contains(deleted, id) {
			e.imageEvent("delete", img, id, id)
		}
	}
	return untagged, deleted, err
}
