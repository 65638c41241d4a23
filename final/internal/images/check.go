//go:build linux

package images

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/go-units"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"gocker/final/internal/disk"
	"gocker/final/internal/registry"
	"gocker/final/internal/store"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/leftover"
	"gocker/step03-layers/merged"
)

// A Finding is something in the store that is not as it should be.
type Finding struct {
	Path, What, Advice string
	Kept               bool // on purpose: there is nothing wrong with it
}

// A Checked store is what a check has looked at.
type Checked struct{ Images, Layers int }

// Check recomputes everything in the store and calls found for what is wrong. No image can be removed meanwhile.
func (s Store) Check(found func(Finding)) (Checked, error) {
	lock, err := s.holdLayers()
	if err != nil {
		return Checked{}, err
	}
	defer lock.Close()
	if err := s.leftovers(found); err != nil { // first: a command that makes a partial removes those that nobody holds
		return Checked{}, err
	}
	ids, err := s.ids()
	if err != nil {
		return Checked{}, err
	}
	names, err := layers.List(s.Dirs)
	if err != nil {
		found(Finding{Path: s.Dirs.ImagesJSON(), What: err.Error(), Advice: advice.Of(err)})
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		for _, tag := range slices.Sorted(maps.Keys(names[name])) {
			if id := names[name][tag]; !slices.Contains(ids, id) {
				found(Finding{Path: s.Dirs.ImagesJSON(), What: fmt.Sprintf("%s:%s is the image %s, which is not here", name, tag, id), Advice: "pull it again, or take the name off: gocker untag " + name + ":" + tag})
			}
		}
	}
	verified := map[string]store.Verified{}
	defer closeAll(verified)
	for _, id := range ids {
		if err := s.checkImage(id, verified, found); err != nil {
			return Checked{}, err
		}
	}
	return Checked{len(ids), len(verified)}, nil
}

func closeAll(verified map[string]store.Verified) {
	for _, v := range verified {
		v.Close()
	}
}

// holdLayers keeps others from removing images and layers.
func (s Store) holdLayers() (*os.File, error) {
	if err := os.MkdirAll(s.Dirs.Layers(), 0o755); err != nil {
		return nil, err
	}
	return dirs.LockShared(s.Dirs.Layers())
}

// ids lists the folders of the images that are here.
func (s Store) ids() (ids []string, err error) {
	folders, err := dirs.Glob(s.Dirs.Images(), "*")
	for _, folder := range folders {
		if id := filepath.Base(folder); dirs.IsImage(id) {
			ids = append(ids, id)
		}
	}
	return ids, err
}

// checkImage checks an image and those of its layers that are not verified yet.
func (s Store) checkImage(id string, verified map[string]store.Verified, found func(Finding)) error {
	unverified, wrong := store.VerifyImage(s.Dirs, id)
	wrong = append(wrong, s.checkOrigins(id)...)
	for _, what := range wrong {
		found(Finding{Path: s.Dirs.Image(id), What: what, Advice: "remove the image and pull it again: gocker rmi -f " + id})
	}
	var below merged.Stack
	for _, layer := range unverified {
		v, ok := verified[layer.ChainID]
		if !ok {
			folder := s.Dirs.Layer(strings.TrimPrefix(layer.ChainID, "sha256:"))
			var err error
			if v, err = store.Verify(s.Dirs, layer, below); err != nil {
				return fmt.Errorf("verify layer %q: %w", folder, err)
			}
			verified[layer.ChainID] = v
			for _, what := range v.Wrong {
				found(Finding{Path: folder, What: what, Advice: "remove its layer.json, and pull an image that has it again, such as " + id})
			}
		}
		below = append(below, v.FS)
	}
	return nil
}

// checkOrigins compares what is kept of registries with its digests, and with the image.
func (s Store) checkOrigins(id string) (wrong []string) {
	origins, err := s.origins(id)
	if err != nil {
		return []string{fmt.Sprintf("origins.json: %v", err)}
	}
	for _, origin := range origins {
		raw, err := s.document(id, origin.Manifest)
		if err != nil {
			wrong = append(wrong, fmt.Sprintf("manifest of %s: %v", origin.Reference, err))
			continue
		}
		manifest, err := registry.ParseManifest(raw)
		if err == nil && dirs.Short(manifest.Config.Digest.Hex) != id {
			err = fmt.Errorf("%s is the manifest of image %s", origin.Manifest, dirs.Short(manifest.Config.Digest.Hex))
		}
		if err == nil && origin.Digest != origin.Manifest {
			_, err = s.document(id, origin.Digest)
		}
		if err != nil {
			wrong = append(wrong, err.Error())
		}
	}
	return wrong
}

// document reads a manifest or an index that a registry sent, and compares it with its digest.
func (s Store) document(id, digest string) ([]byte, error) {
	raw, err := os.ReadFile(filepath.Join(s.Dirs.Image(id), strings.TrimPrefix(digest, "sha256:")+".json"))
	if err != nil {
		return nil, err
	}
	if got, _, err := v1.SHA256(bytes.NewReader(raw)); err != nil || got.String() != digest {
		return nil, fmt.Errorf("%w: %s has the digest %s", layers.ErrDigest, digest, got)
	}
	return raw, nil
}

// leftovers finds what crashes and broken pulls have left. The caller holds layers/.
func (s Store) leftovers(found func(Finding)) error {
	const next = "the next pull or load removes it, or: gocker image prune"
	stale, err := s.stale()
	if err != nil {
		return err
	}
	for _, path := range stale {
		found(Finding{Path: path, What: "a process that died has left it, " + size(path), Advice: next})
	}
	err = s.brokenPulls(func(folder string) error {
		found(Finding{Path: folder, What: "left of a pull that broke off, " + size(folder), Advice: "pull the image again, which goes on there, or: gocker image prune", Kept: true})
		return nil
	})
	if err != nil {
		return err
	}
	unused, err := leftover.Unused(s.Dirs)
	for _, chainID := range unused {
		path := s.Dirs.Layer(chainID)
		found(Finding{Path: path, What: "a layer that no image has, " + size(path), Advice: next})
	}
	return err
}

// stale lists the unfinished files and folders that nobody is at work on.
func (s Store) stale() (paths []string, err error) {
	parents, err := dirs.Glob(s.Dirs.AllTmp(), "*")
	if err != nil {
		return nil, err
	}
	for _, parent := range append([]string{s.Dirs.Layers(), s.Dirs.Images(), s.Dirs.AllTmp(), s.Dirs.AllLasting()}, parents...) {
		found, err := dirs.Stale(parent)
		if err != nil {
			return nil, err
		}
		paths = append(paths, found...)
	}
	return paths, nil
}

// brokenPulls calls do for the folders of images that were on their way in, and whose pull has ended: each is locked
// meanwhile.
func (s Store) brokenPulls(do func(folder string) error) error {
	folders, err := dirs.Glob(s.Dirs.AllTmp(), "*")
	for _, folder := range folders {
		if !dirs.IsImage(filepath.Base(folder)) {
			continue
		}
		if lock, lockErr := dirs.TryLock(folder); lockErr == nil {
			err = errors.Join(err, do(folder))
			lock.Close()
		}
	}
	return err
}

func size(path string) string { return units.HumanSize(float64(disk.Bytes(path))) }
