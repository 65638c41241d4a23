//go:build linux

package registry

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"gocker/final/internal/platform"
	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
)

// Documents are where the manifests and configs are that an index names.
type Documents interface {
	Manifest(digest v1.Hash) (raw []byte, mediaType types.MediaType, err error)
	Config(desc v1.Descriptor) ([]byte, error)
}

// Limits of what an index makes us ask for.
const (
	maxDepth = 4  // indexes in indexes
	maxAsked = 32 // documents of which the index does not say for what platform they are
)

// Choose finds the manifest for a platform in an index, or in the indexes in that. What the index says of platforms
// settles it; only if none of them fits, those are looked at of which it says nothing.
func Choose(index []byte, wanted v1.Platform, documents Documents) (v1.Hash, error) {
	c := choice{Documents: documents, wanted: wanted, rank: -1}
	if err := c.index(index, 1); err != nil {
		return v1.Hash{}, err
	}
	if c.rank < 0 {
		return v1.Hash{}, NotFor(wanted, c.offered)
	}
	return c.best, nil
}

// NotFor is the error of what is made for other platforms than the one that is wanted.
func NotFor(wanted v1.Platform, offered []string) error {
	err := fmt.Errorf("%w: %s", pull.ErrPlatform, wanted)
	if len(offered) == 0 {
		return advice.Add(err, "it has no image for any platform")
	}
	slices.Sort(offered)
	return advice.Add(err, "--platform is one of: %s", strings.Join(slices.Compact(offered), ", "))
}

// A choice is the best so far.
type choice struct {
	Documents
	wanted  v1.Platform
	best    v1.Hash
	rank    int // of the best; -1: there is none
	offered []string
	asked   int
}

func (c *choice) index(raw []byte, depth int) error {
	var index v1.IndexManifest
	if err := dirs.ParseJSON(raw, &index); err != nil {
		return fmt.Errorf("%w: read index: %w", ErrManifest, err)
	}
	var unknown []v1.Descriptor
	for _, m := range index.Manifests {
		switch {
		case IsAttachment(m):
		case m.Platform != nil && m.MediaType.IsImage():
			c.offer(m.Digest, *m.Platform)
		case m.Platform == nil || m.MediaType.IsIndex() && platform.Rank(*m.Platform, c.wanted) >= 0:
			unknown = append(unknown, m)
		}
	}
	for _, m := range unknown {
		if c.rank >= 0 {
			return nil
		}
		if err := c.look(m.Digest, depth); err != nil {
			return err
		}
	}
	return nil
}

// IsAttachment tells whether a descriptor of an index is of something that belongs to an image of it and is none: a
// signature, or how it was built.
func IsAttachment(m v1.Descriptor) bool {
	return m.Annotations["vnd.docker.reference.type"] != "" || m.Platform != nil && m.Platform.OS == "unknown"
}

// offer takes an image if it runs better than the best so far.
func (c *choice) offer(digest v1.Hash, offered v1.Platform) {
	c.offered = append(c.offered, platform.Normal(offered).String())
	if rank := platform.Rank(offered, c.wanted); rank >= 0 && (c.rank < 0 || rank < c.rank) {
		c.best, c.rank = digest, rank
	}
}

// look finds out for which platform something is by looking at it. What is no image is left out.
func (c *choice) look(digest v1.Hash, depth int) error {
	if c.asked++; c.asked > maxAsked || depth >= maxDepth {
		return nil
	}
	raw, mediaType, err := c.Manifest(digest)
	if err != nil {
		return err
	}
	if mediaType.IsIndex() {
		return c.index(raw, depth+1)
	}
	manifest, err := ParseManifest(raw)
	if errors.Is(err, ErrOther) {
		return nil
	}
	if err != nil {
		return err
	}
	config, err := c.Config(manifest.Config)
	if err != nil {
		return err
	}
	var is v1.Platform
	if err := dirs.ParseJSON(config, &is); err == nil && is.Architecture != "" { // else CheckConfig of whoever takes it says it
		c.offer(digest, is)
	}
	return nil
}
