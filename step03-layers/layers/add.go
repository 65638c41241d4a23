//go:build linux

package layers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step02-untar/untar"
)

// An Incoming image is one whose layers may still be on their way.
type Incoming struct {
	Manifest tarball.Descriptor // what manifest.json will say
	Config   []byte
	Blobs    []Blob            // the layers, the lowest first
	Extra    map[string][]byte // more files for images/{image}
	Limits   untar.Limits      // of all layers together
}

// A Blob is one layer on its way in. Open is called at most once, and not for a layer that is here already; ctx is done
// when another layer has failed.
type Blob struct {
	Digest string // "sha256:…" of the bytes as they are sent; "" where nobody has promised one
	Open   func(ctx context.Context) (Stream, error)
}

// A Stream is read once, from its first byte to its last. Link gives its bytes, once all have been read, a name on disk.
type Stream interface {
	io.ReadCloser
	Link(name string) error
}

// Add unpacks the layers of {root}/tmp/{image}, whose lock the caller holds, and enters the image as ref. Layers that
// other images have too are not unpacked again. The temporary folder is removed.
func Add(d dirs.Dirs, ref pull.Reference, image string) (Image, error) {
	tmp := d.Tmp(image)
	manifest, _, config, err := readManifest(tmp, image)
	if err != nil {
		return Image{}, advice.Add(err, "remove %q and pull the image again", tmp)
	}
	in := Incoming{Manifest: manifest, Config: config}
	for _, name := range manifest.Layers {
		in.Blobs = append(in.Blobs, Packaged(tmp, name))
	}
	img, err := in.Add(context.Background(), d, ref)
	if err != nil {
		return Image{}, err
	}
	return img, dirs.RemoveAll(tmp)
}

// Packaged is a layer of an archive that was unpacked into dir. Digest is for the caller to add, if the archive has one.
func Packaged(dir, name string) Blob {
	return Blob{Open: func(context.Context) (Stream, error) {
		f, err := openInside(dir, name)
		return packaged{f}, err
	}}
}

// packaged is a layer that lies in an unpacked package.tar.
type packaged struct{ *os.File }

// Link names the open file itself: the name by which it was opened may be a link, and lead elsewhere by now. Its owner
// and mode were the archive's choice; whoever may write there later could change the layer.
func (p packaged) Link(name string) error {
	if err := errors.Join(p.Chown(os.Geteuid(), os.Getegid()), p.Chmod(0o644)); err != nil {
		return err
	}
	err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", p.Fd()), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return fmt.Errorf("link %q to %q: %w", p.Name(), name, err)
	}
	return nil
}

// Add unpacks all layers side by side and enters the image under all names. Nobody sees any of it before every byte is checked
// and on the disk.
func (in Incoming) Add(ctx context.Context, d dirs.Dirs, refs ...pull.Reference) (Image, error) {
	config, err := parseConfig(in.Manifest, in.Config)
	if err != nil {
		return Image{}, err
	}
	// Fail now, not after the work, where the image could not be entered.
	if _, err := List(d); err != nil {
		return Image{}, err
	}
	if err := Sweep(d); err != nil {
		return Image{}, err
	}
	img := Image{Digest: sum(in.Config), Config: config}
	img.ID = dirs.Short(img.Digest)
	for i, chainID := range chainIDs(config.RootFS.DiffIDs) {
		img.Layers = append(img.Layers, Layer{DiffID: config.RootFS.DiffIDs[i].String(), ChainID: "sha256:" + chainID})
	}
	entry, store, err := in.claim(d, img)
	if err != nil {
		return Image{}, fmt.Errorf("enter image %s: %w", img.ID, err)
	}
	defer store.Close()
	defer entry.Discard()

	layers := make([]*incomingLayer, len(img.Layers))
	defer func() {
		for _, l := range layers {
			l.discard()
		}
	}()
	limit := in.Limits.Budget()
	group, ctx := errgroup.WithContext(ctx)
	// The lowest begin, and they wait for nobody: so nobody waits forever for a place. Each takes some megabytes.
	group.SetLimit(min(max(2, runtime.GOMAXPROCS(0)), 4))
	for i, layer := range img.Layers {
		l := &incomingLayer{Layer: layer, done: make(chan struct{}), lower: layers[:i:i]}
		layers[i] = l
		group.Go(func() error {
			if err := l.unpack(ctx, d, in.Blobs[i], limit); err != nil {
				return fmt.Errorf("unpack layer %s of image %s: %w", in.Manifest.Layers[i], img.ID, err)
			}
			close(l.done)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return Image{}, err
	}
	for i, l := range layers {
		img.Layers[i] = l.Layer
	}
	if err := img.writeSummary(entry.Path); err != nil {
		return Image{}, err
	}
	// All that has names of its own in the store must be on the disk before: one sync for all the files.
	if err := unix.Syncfs(int(store.Fd())); err != nil {
		return Image{}, fmt.Errorf("sync %q: %w", d.Layers(), err)
	}
	for i, l := range layers {
		if img.Layers[i], err = l.finish(d); err != nil {
			return Image{}, err
		}
	}
	// Whoever looks for layers that nobody links to must not find the links neither below the old name nor the new.
	lock, err := dirs.LockShared(d.Layers())
	if err != nil {
		return Image{}, err
	}
	defer lock.Close()
	if err := img.enter(d, entry); err != nil {
		return Image{}, fmt.Errorf("enter image %s: %w", img.ID, err)
	}
	if err := store.Sync(); err != nil {
		return Image{}, err
	}
	return img, Tag(d, img.ID, refs...)
}

// parseConfig reads the config and sees that it fits the manifest.
func parseConfig(manifest tarball.Descriptor, raw []byte) (*v1.ConfigFile, error) {
	config, err := v1.ParseConfigFile(strings.NewReader(string(raw)))
	if err != nil {
		return nil, fmt.Errorf("%w: config %q: %w", ErrManifest, manifest.Config, err)
	}
	if config.RootFS.Type != "layers" {
		return nil, fmt.Errorf("%w: its root file system is of the type %q", ErrManifest, config.RootFS.Type)
	}
	if len(manifest.Layers) != len(config.RootFS.DiffIDs) || len(manifest.Layers) == 0 {
		return nil, fmt.Errorf("%w: it lists %d layers, the config %d", ErrManifest, len(manifest.Layers), len(config.RootFS.DiffIDs))
	}
	for _, name := range layerNames(manifest) {
		if !filepath.IsLocal(name) {
			return nil, fmt.Errorf("%w: one of its layers has no name", ErrManifest)
		}
	}
	for _, diffID := range config.RootFS.DiffIDs {
		if diffID.Algorithm != "sha256" {
			return nil, fmt.Errorf("%w: diffID %s is no sha256", ErrManifest, diffID)
		}
	}
	return config, nil
}

// claim makes the image's folder under a name that nobody looks at. Its links keep the layers, those that are here and
// those that will be. store is the folder of all layers.
func (in Incoming) claim(d dirs.Dirs, img Image) (entry *dirs.Partial, store *os.File, err error) {
	if err := os.MkdirAll(d.Layers(), 0o700); err != nil {
		return nil, nil, err
	}
	lock, err := dirs.LockShared(d.Layers())
	if err != nil {
		return nil, nil, err
	}
	defer lock.Close()
	if entry, err = dirs.NewPartial(d.Images()); err != nil {
		return nil, nil, err
	}
	if err = in.fill(entry.Path, img); err == nil {
		store, err = os.Open(d.Layers())
	}
	if err != nil {
		entry.Discard()
	}
	return entry, store, err
}

// fill makes what images/{image} has: manifest.json, the config, and a link for every layer.
func (in Incoming) fill(dir string, img Image) error {
	manifest, err := json.Marshal(tarball.Manifest{in.Manifest})
	if err != nil {
		return err
	}
	files := map[string][]byte{"manifest.json": manifest, img.Digest + ".json": in.Config}
	for name, content := range in.Extra {
		files[name] = content
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return err
		}
	}
	for i, name := range layerNames(in.Manifest) {
		to := filepath.Join("..", "..", "layers", strings.TrimPrefix(img.Layers[i].ChainID, "sha256:"))
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return os.Chmod(dir, 0o755)
}

// enter gives the image's folder its name.
func (img Image) enter(d dirs.Dirs, entry *dirs.Partial) error {
	if err := entry.Finish(d.Image(img.ID)); !errors.Is(err, os.ErrExist) {
		return err
	}
	// It is here already. Twelve digits can be found by trying: look at all of them.
	if _, err := os.Stat(filepath.Join(d.Image(img.ID), img.Digest+".json")); err != nil {
		return advice.Add(fmt.Errorf("%w: there is another image %s: %w", ErrDigest, img.ID, err), "remove that image first")
	}
	return nil
}

// An incomingLayer becomes a folder of the store. Until done is closed, only its own goroutine looks at it.
type incomingLayer struct {
	Layer
	lower   []*incomingLayer
	fs      string
	partial *dirs.Partial // nil for a layer that is here already
	done    chan struct{} // closed once the layer, and so all below it, can be looked at
}

// below waits until all layers below are settled.
func (l *incomingLayer) below(ctx context.Context) (Stack, error) {
	var stack Stack
	for _, lower := range l.lower {
		select {
		case <-lower.done:
			stack = append(stack, lower.fs)
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return stack, nil
}

// unpack makes the folder of a layer that is not here yet.
func (l *incomingLayer) unpack(ctx context.Context, d dirs.Dirs, blob Blob, limit *untar.Budget) (err error) {
	if known, err := readLayer(d, l.ChainID); err == nil {
		l.Layer, l.fs = known, fsOf(d, l.ChainID)
		return nil
	}
	if l.partial, err = dirs.NewPartial(d.Layers()); err != nil {
		return err
	}
	l.fs = filepath.Join(l.partial.Path, "fs")
	stream, err := blob.Open(ctx)
	if err != nil {
		return err
	}
	defer stream.Close()
	got, err := receive(stream, l.fs, func() (Stack, error) { return l.below(ctx) }, limit)
	if err != nil && !errors.Is(err, untar.ErrArchive) {
		return err
	}
	// A damaged archive may be what somebody made, or what was made of it on the way: the digest tells.
	if blob.Digest != "" && got.Digest != blob.Digest {
		return advice.Add(fmt.Errorf("%w: what was sent is %s, the manifest says %s", ErrDigest, got.Digest, blob.Digest), "pull the image again")
	}
	if err != nil {
		return err
	}
	if got.DiffID != l.DiffID {
		return advice.Add(fmt.Errorf("%w: diffID is %s, the config says %s", ErrDigest, got.DiffID, l.DiffID), "pull the image again")
	}
	got.ChainID = l.ChainID
	l.Layer = got
	if err := stream.Link(filepath.Join(l.partial.Path, "blob")); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(l.Layer, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(l.partial.Path, "layer.json"), raw, 0o644)
}

// receive unpacks a layer as it was sent into a new folder, and returns all that its bytes say: everything but the
// chainID. Where the archive in it is damaged, that is the digest.
func receive(stream io.Reader, to string, wait func() (Stack, error), limit *untar.Budget) (layer Layer, err error) {
	if err := os.Mkdir(to, 0o755); err != nil {
		return Layer{}, err
	}
	sent := &counter{r: stream, hash: sha256.New()}
	u := unpacker{to: to, wait: wait, layer: &layer, limit: limit}
	diffID, err := u.unpack(sent)
	if err != nil && !errors.Is(err, untar.ErrArchive) {
		return Layer{}, err
	}
	if _, err := io.Copy(io.Discard, sent); err != nil {
		return Layer{}, err
	}
	layer.Digest, layer.DiffID, layer.Size = "sha256:"+hex.EncodeToString(sent.hash.Sum(nil)), diffID, sent.n
	return layer, err
}

// finish gives the layer's folder its name. Where another process was first, that one's is as good.
func (l *incomingLayer) finish(d dirs.Dirs) (Layer, error) {
	if l.partial == nil {
		return l.Layer, nil
	}
	final := d.Layer(strings.TrimPrefix(l.ChainID, "sha256:"))
	err := l.partial.Finish(final)
	if !errors.Is(err, os.ErrExist) {
		return l.Layer, err
	}
	known, err := readLayer(d, l.ChainID)
	if err == nil {
		return known, nil
	}
	if !dirs.Lost(err) {
		return l.Layer, err // other images may have it
	}
	// What is there is damaged, and whoever says so advises to pull again.
	if err := dirs.RemoveAll(final); err != nil {
		return l.Layer, err
	}
	return l.Layer, l.partial.Finish(final)
}

func (l *incomingLayer) discard() {
	if l != nil && l.partial != nil {
		l.partial.Discard()
	}
}

// counter knows how much was read, and its digest.
type counter struct {
	r    io.Reader
	hash hash.Hash
	n    int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.hash.Write(p[:n])
	c.n += int64(n)
	return n, err
}
