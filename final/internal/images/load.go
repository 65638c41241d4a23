//go:build linux

package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"gocker/final/internal/platform"
	"gocker/final/internal/registry"
	"gocker/final/internal/store"
	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step02-untar/budget"
	"gocker/step02-untar/untar"
	"gocker/step03-layers/layers"
)

// ErrArchive says that a file or folder is no archive of images.
var ErrArchive = errors.New("not an archive of images")

// maxLoaded is how many images, and how many names of one, an archive may have.
const maxLoaded = 1000

// A Loaded image is one that came out of an archive.
type Loaded struct {
	layers.Image
	Names []pull.Reference
}

// LoadOptions are the flags of "gocker load", and functions that hear what comes of it.
type LoadOptions struct {
	Limits   budget.Limits
	Platform *v1.Platform // of a name with images for several platforms; nil: this machine's

	Loaded  func(Loaded)      // hears of each image that is here now
	LeftOut func(what string) // hears of what is no image for this platform
}

// Load enters the images of an archive: docker's, or an OCI layout in a tar, compressed or not. Nothing that the archive
// says is taken on trust: it is unpacked into a folder of its own, names are followed inside of that only, and digests are
// compared before anybody can see an image.
func (s Store) Load(ctx context.Context, archive io.Reader, opts LoadOptions) error {
	return s.load(ctx, func(to string) error { return untar.Unpack(untilDone{ctx, archive}, to, opts.Limits) }, opts)
}

// LoadFolder is Load for a folder: an OCI layout, a docker archive that is unpacked, or what skopeo writes as "dir:".
func (s Store) LoadFolder(ctx context.Context, folder string, opts LoadOptions) error {
	if err := isArchive(folder); err != nil {
		return fmt.Errorf("load %q: %w: %w", folder, ErrArchive, err)
	}
	return s.load(ctx, func(to string) error {
		store, err := os.Stat(s.Dirs.Root)
		if err != nil {
			return err
		}
		// A copy: the store keeps the files, and the owner of the folder may write to them.
		return os.CopyFS(to, withoutStore{os.DirFS(folder), store})
	}, opts)
}

// withoutStore is a folder without the store, which may lie in it: the copy would have itself in it.
type withoutStore struct {
	fs.FS
	store fs.FileInfo
}

func (w withoutStore) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(w.FS, name)
	return slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
		info, err := e.Info()
		return err == nil && os.SameFile(info, w.store)
	}), err
}

func (w withoutStore) ReadLink(name string) (string, error)   { return fs.ReadLink(w.FS, name) }
func (w withoutStore) Lstat(name string) (fs.FileInfo, error) { return fs.Lstat(w.FS, name) }

func (s Store) load(ctx context.Context, fill func(to string) error, opts LoadOptions) error {
	partial, err := dirs.NewPartial(s.Dirs.AllTmp())
	if err != nil {
		return err
	}
	defer partial.Discard()
	if err := inTime(ctx, func() error { return fill(partial.Path) }); err != nil {
		return fmt.Errorf("load: %w", err)
	}
	packages, leftOut, err := readArchive(partial.Path, opts.Platform)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrArchive, err)
	}
	for _, p := range packages {
		p.Limits = opts.Limits
		img, err := store.Add(ctx, s.Dirs, p.Source, nil, p.names...)
		if err != nil {
			return err
		}
		if p.origin.Manifest != "" {
			if err := s.addOrigin(img.ID, p.origin, p.documents); err != nil {
				return err
			}
		}
		s.Note("load", img, "sha256:"+img.Digest, "sha256:"+img.Digest)
		opts.Loaded(Loaded{img, p.names})
	}
	for _, what := range leftOut {
		opts.LeftOut(what)
	}
	return nil
}

// inTime calls read, and waits for it until ctx ends: standard input may send nothing for hours, and nothing ends a read.
func inTime(ctx context.Context, read func() error) error {
	done := make(chan error, 1)
	go func() { done <- read() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// untilDone is a reader that ends with its context.
type untilDone struct {
	ctx context.Context
	io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.Reader.Read(p)
}

// A pack is one image of an unpacked archive.
type pack struct {
	layers.Source
	names     []pull.Reference
	platform  v1.Platform
	origin    Origin // without a reference: no registry is known to have it
	documents map[string][]byte
}

// isArchive is an error if a folder cannot be loaded. It says why.
func isArchive(dir string) error {
	if isFile(dir, "manifest.json") || isFile(dir, "index.json") && isFile(dir, "oci-layout") {
		return nil
	}
	err := errors.New("it has neither manifest.json, as docker's have, nor index.json and oci-layout")
	if isFile(dir, "repositories") {
		return advice.Add(err, "it was made by a docker before 1.10: load it there, and save it with a newer one")
	}
	return advice.Add(err, "archives of images are made by gocker save, docker save, podman save or skopeo copy")
}

func isFile(dir, name string) bool {
	info, err := os.Lstat(filepath.Join(dir, name))
	return err == nil && info.Mode().IsRegular()
}

// readArchive reads and checks all but the layers. An archive that is both, as docker writes them, is read as an OCI
// layout: only that has the manifest's digest. But a name may stand in docker's manifest.json alone.
func readArchive(dir string, wanted *v1.Platform) (packages []pack, leftOut []string, err error) {
	if err := isArchive(dir); err != nil {
		return nil, nil, err
	}
	if !isFile(dir, "oci-layout") || !isFile(dir, "index.json") {
		return readDocker(dir, wanted)
	}
	packages, leftOut, err = readLayout(dir, wanted)
	if err != nil || !isFile(dir, "manifest.json") {
		return packages, leftOut, err
	}
	all, err := readPackages(dir)
	if err != nil {
		return nil, nil, err
	}
	named := map[string]bool{}
	for _, p := range packages {
		for _, name := range p.names {
			named[name.String()] = true
		}
	}
	for i := range packages {
		for _, p := range all {
			if p.Manifest.Config != packages[i].Manifest.Config {
				continue
			}
			for _, name := range p.names {
				if !named[name.String()] {
					packages[i].names = append(packages[i].names, name)
				}
			}
		}
	}
	return packages, leftOut, nil
}

// readDocker reads docker's kind, and skopeo's folders, whose manifest.json is a manifest itself.
func readDocker(dir string, wanted *v1.Platform) (packages []pack, leftOut []string, err error) {
	raw, err := layers.ReadInside(dir, "manifest.json")
	if err != nil {
		return nil, nil, err
	}
	if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) {
		return readFolder(dir, raw, wanted)
	}
	all, err := readPackages(dir)
	if err != nil {
		return nil, nil, err
	}
	want := platform.Host()
	if wanted != nil {
		want = *wanted
	}
	best := map[string]int{} // name -> the image that it stands for: of several the one that runs best, of equals the last
	for i, p := range all {
		for _, name := range p.names {
			old, ok := best[name.String()]
			if !ok || better(p.platform, all[old].platform, want) {
				best[name.String()] = i
			}
		}
	}
	for i, p := range all {
		names := slices.DeleteFunc(slices.Clone(p.names), func(name pull.Reference) bool { return best[name.String()] != i })
		switch {
		case wanted != nil && platform.Rank(p.platform, want) < 0, len(names) == 0 && len(p.names) > 0:
			leftOut = append(leftOut, fmt.Sprintf("%s for %s", p.names, p.platform))
		default:
			p.names = names
			packages = append(packages, p)
		}
	}
	if len(packages) == 0 {
		return nil, nil, registry.NotFor(want, offered(all))
	}
	return packages, leftOut, nil
}

// better tells whether one platform serves want at least as well as another.
func better(one, other, want v1.Platform) bool {
	rank := func(p v1.Platform) uint { return uint(platform.Rank(p, want)) } // none is the last
	return rank(one) <= rank(other)
}

func offered(all []pack) (platforms []string) {
	for _, p := range all {
		platforms = append(platforms, p.platform.String())
	}
	return platforms
}

// readPackages reads docker's manifest.json.
func readPackages(dir string) (packages []pack, err error) {
	raw, err := layers.ReadInside(dir, "manifest.json")
	if err != nil {
		return nil, err
	}
	var all tarball.Manifest
	if err := dirs.ParseJSON(raw, &all); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	if len(all) == 0 || len(all) > maxLoaded {
		return nil, fmt.Errorf("manifest.json has %d images; there may be 1 to %d", len(all), maxLoaded)
	}
	for _, image := range all {
		p := pack{Source: layers.Source{Manifest: image}}
		if p.names, err = parseAll(image.RepoTags); err != nil {
			return nil, err
		}
		if p.Config, err = layers.ReadInside(dir, image.Config); err != nil {
			return nil, fmt.Errorf("config: %w", err)
		}
		digest, _, err := v1.SHA256(bytes.NewReader(p.Config))
		if err != nil {
			return nil, err
		}
		// Docker, podman and skopeo name it by its digest.
		if name := strings.TrimSuffix(path.Base(image.Config), ".json"); len(name) == 64 && name != digest.Hex {
			return nil, fmt.Errorf("%w: config %q has the digest %s", layers.ErrDigest, image.Config, digest)
		}
		if err := dirs.ParseJSON(p.Config, &p.platform); err != nil {
			return nil, fmt.Errorf("config %q: %w", image.Config, err)
		}
		p.platform = platform.Normal(p.platform)
		p.Manifest.Config = digest.Hex + ".json"
		for _, name := range image.Layers {
			p.Blobs = append(p.Blobs, layers.Packaged(dir, name))
		}
		packages = append(packages, p)
	}
	return packages, nil
}

func parseAll(names []string) (refs []pull.Reference, err error) {
	if len(names) > maxLoaded {
		return nil, fmt.Errorf("an image has %d names; there may be %d", len(names), maxLoaded)
	}
	for _, name := range names {
		ref, err := pull.ParseReference(name)
		if err != nil {
			return nil, err
		}
		refs = append(refs, ref)
	}
	return refs, nil
}
