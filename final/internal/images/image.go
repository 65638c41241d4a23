//go:build linux

package images

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"gocker/final/internal/disk"
	"gocker/final/internal/filter"
	"gocker/final/internal/store"
	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/leftover"
	"gocker/step03-layers/local"
)

// An Inspection is what "docker image inspect" tells of an image, in docker's names.
type Inspection struct {
	ID           string `json:"Id"`
	RepoTags     []string
	RepoDigests  []string
	Comment      string
	Created      time.Time
	Author       string
	Config       Config
	Architecture string
	Variant      string `json:",omitempty"`
	Os           string
	Size         int64 // bytes of all its files
	GraphDriver  struct {
		Name string
		Data map[string]string
	}
	RootFS struct {
		Type   string
		Layers []string // diffIDs, the lowest first
	}
}

// Inspect tells all about an image.
func (s Store) Inspect(ref pull.Reference) (i Inspection, err error) {
	img, err := s.Open(ref)
	if err != nil {
		return i, err
	}
	config := img.Config
	i = Inspection{
		ID: "sha256:" + img.Digest, Created: config.Created.Time, Author: config.Author,
		Architecture: config.Architecture, Variant: config.Variant, Os: config.OS, RepoTags: []string{},
	}
	if i.Config, err = s.Config(img); err != nil {
		return i, err
	}
	if n := len(config.History); n > 0 {
		i.Comment = config.History[n-1].Comment
	}
	names, err := layers.List(s.Dirs)
	if err != nil {
		return i, err
	}
	for name, tags := range names {
		for tag, id := range tags {
			if id == img.ID && !strings.HasPrefix(tag, "sha256:") {
				i.RepoTags = append(i.RepoTags, name+":"+tag)
			}
		}
	}
	slices.Sort(i.RepoTags)
	if i.RepoDigests, err = s.repoDigests(img.ID); err != nil {
		return i, err
	}
	i.RootFS.Type, i.RootFS.Layers = config.RootFS.Type, []string{}
	folders := img.Stack(s.Dirs)
	for _, layer := range img.Layers {
		i.Size += layer.Files
		i.RootFS.Layers = append(i.RootFS.Layers, layer.DiffID)
	}
	// As docker has it: the topmost layer is the upper one, and the others come from the top down.
	slices.Reverse(folders)
	i.GraphDriver.Name, i.GraphDriver.Data = "overlay", map[string]string{}
	if len(folders) > 0 {
		i.GraphDriver.Data["UpperDir"] = folders[0]
	}
	if len(folders) > 1 {
		i.GraphDriver.Data["LowerDir"] = strings.Join(folders[1:], ":")
	}
	return i, nil
}

// A HistoryStep is one line of an image's history: what was done to make it, and the layer that came of that.
type HistoryStep struct {
	v1.History
	ID    string       // of the image, at the last step only
	Layer layers.Layer // none where EmptyLayer says so
}

// History returns what was done to make an image, the last first. Steps and layers are matched in order, and layers that
// the config's history says nothing of get a step of their own.
func (s Store) History(ref pull.Reference) (steps []HistoryStep, err error) {
	img, err := s.Open(ref)
	if err != nil {
		return nil, err
	}
	rest := img.Layers
	for _, h := range img.Config.History {
		step := HistoryStep{History: h}
		if !h.EmptyLayer && len(rest) > 0 {
			step.Layer, rest = rest[0], rest[1:]
		}
		steps = append(steps, step)
	}
	for _, layer := range rest {
		steps = append(steps, HistoryStep{Layer: layer, History: v1.History{Created: img.Config.Created}})
	}
	slices.Reverse(steps)
	if len(steps) > 0 {
		steps[0].ID = img.Digest
	}
	return steps, nil
}

// Hashes are all digests of an image, "sha256:" and 64 hex digits each.
type Hashes struct {
	ID       string   // {image}: the first 12 digits of Config
	Config   string   // of the config
	Sent     []Origin // index and manifest, by each name that registries have for it
	Layers   []LayerHashes
	Findings []Finding `json:",omitempty"` // what is wrong, if that was asked for
}

// LayerHashes are those of one layer, the lowest is the first.
type LayerHashes struct {
	layers.Layer
	Folder string
}

// Hashes tells an image's digests. With verify it recomputes them all, and compares the files with the blobs.
func (s Store) Hashes(ref pull.Reference, verify bool) (h Hashes, err error) {
	lock, err := s.holdLayers()
	if err != nil {
		return h, err
	}
	defer lock.Close()
	id, err := s.Lookup(ref)
	if err != nil {
		return h, err
	}
	h.ID = id
	if verify {
		verified := map[string]store.Verified{}
		defer closeAll(verified)
		if err := s.checkImage(id, verified, func(f Finding) { h.Findings = append(h.Findings, f) }); err != nil {
			return h, err
		}
	}
	img, err := layers.Open(s.Dirs, id)
	if err != nil && len(h.Findings) == 0 {
		return h, err
	}
	if err != nil {
		return h, nil // the findings say it
	}
	h.Config = "sha256:" + img.Digest
	if h.Sent, err = s.origins(id); err != nil {
		return h, err
	}
	for _, layer := range img.Layers {
		h.Layers = append(h.Layers, LayerHashes{layer, s.Dirs.Layer(strings.TrimPrefix(layer.ChainID, "sha256:"))})
	}
	return h, nil
}

// Pruned is what a prune has removed.
type Pruned struct {
	Untagged, Deleted []string // as Remove says it
	Leftovers         []string // paths
	Bytes             int64
}

// ParsePrune reads the filters of Prune: those of filter.Prune, and dangling=true or dangling=false.
func ParsePrune(filters []string) (unwanted func(Named) bool, err error) {
	var dangling []bool
	var rest []string
	for _, f := range filters {
		text, ok := strings.CutPrefix(f, "dangling=")
		if !ok {
			rest = append(rest, f)
			continue
		}
		want, err := strconv.ParseBool(text)
		if err != nil {
			return nil, fmt.Errorf("filter %q: %w", f, err)
		}
		dangling = append(dangling, want)
	}
	passes, err := filter.Prune(rest, true)
	return func(i Named) bool {
		return !slices.Contains(dangling, i.Repository != none) && passes(i.Created, i.Labels)
	}, err
}

// Prune removes images without a name, or with all every image that no container uses, if they pass the filters:
// until=TIME, label=KEY[=VALUE] or label!=KEY[=VALUE]. It also removes what crashes and broken pulls have left.
func (s Store) Prune(all bool, filters []string) (p Pruned, err error) {
	unwanted, err := ParsePrune(filters)
	if err != nil {
		return p, err
	}
	images, unread := s.List(nil, false)
	before := disk.Bytes(s.Dirs.Root)
	for _, image := range images {
		users, err := local.Users(s.Dirs, image.ID)
		if err != nil {
			return p, err
		}
		if len(users) > 0 || !all && image.Repository != none || !unwanted(image) {
			continue
		}
		name := image.ID
		if image.Repository != none {
			name = image.Repository + ":" + image.Tag
			if image.Tag == none {
				name = image.Repository + "@" + image.Digests[0]
			}
		}
		ref, err := pull.ParseReference(name)
		if err != nil {
			return p, err
		}
		untagged, deleted, err := s.Remove(ref, false)
		if errors.Is(err, local.ErrInUse) || errors.Is(err, local.ErrNoImage) {
			continue // somebody was faster
		}
		if err != nil {
			return p, err
		}
		p.Untagged, p.Deleted = append(p.Untagged, untagged...), append(p.Deleted, deleted...)
	}
	if err := s.sweep(&p); err != nil {
		return p, err
	}
	p.Bytes = max(0, before-disk.Bytes(s.Dirs.Root))
	return p, unread
}

// sweep removes what crashes and broken pulls have left.
func (s Store) sweep(p *Pruned) error {
	lock, err := s.holdLayers()
	if err != nil {
		return err
	}
	err = s.leftovers(func(f Finding) { p.Leftovers = append(p.Leftovers, f.Path) })
	lock.Close()
	if err != nil {
		return err
	}
	if err := leftover.Sweep(s.Dirs); err != nil {
		return err
	}
	return s.brokenPulls(dirs.RemoveAll)
}
