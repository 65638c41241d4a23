//go:build linux

// Package layers turns the unpacked package.tar into folders that the kernel can lay over each other, and keeps the
// list of all images.
//
//	{root}/layers/{chainID}/fs               the files of one layer
//	{root}/layers/{chainID}/blob             the layer as it was sent: a tar archive, mostly compressed
//	{root}/layers/{chainID}/layer.json       what is known of it: type Layer
//	{root}/images/{image}/{layer}            a link to ../../layers/{chainID}
//	{root}/images/{image}/manifest.json
//	{root}/images/{image}/{config hash}.json
//	{root}/images/{image}/summary.json       what lists of images show: type Summary
//	{root}/images/images.json
//
// A layer is a changeset: what it adds and updates is in it as files, what it deletes as whiteouts. Tar archives
// spell a whiteout as an empty file ".wh.name", overlayfs as a character device 0/0 named "name"; a folder whose
// lower contents are all hidden is ".wh..wh..opq" in the one and the xattr trusted.overlay.opaque in the other.
//
// Whether a whiteout hides anything, and what mode a folder has that the archive left out, depends on the layers
// below. So a layer's folder has the name of its chainID, which stands for the layer and all below it, and not of its
// diffID, which stands for the layer alone. Images whose lowest layers are the same share them.
//
// The blob is kept because nothing else gives it back: unpacked files do not say how they were packed, and an image that
// is pushed on must have the digests that it came with.
//
// Locks: a layer is in use from the moment in which an image links to it, also one that is still on its way in; Add
// holds layers/ shared while it makes these links, Remove holds it alone while it looks for layers that nobody links to.
// images/ is held for the moment in which images.json changes; images/{image} is held shared by whoever makes a
// container of it. What a crash leaves, the next command removes: see dirs.Partial.
//
// See https://github.com/opencontainers/image-spec/blob/main/layer.md, config.md (diffID, chainID) there, and
// https://docs.kernel.org/filesystems/overlayfs.html (whiteouts and opaque directories).
package layers

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
)

// What can be wrong with an unpacked package or with an image on disk.
var (
	ErrManifest = errors.New("manifest.json is not one that can be used")
	ErrDigest   = errors.New("the content does not match its digest")
	ErrDamaged  = dirs.ErrDamaged
)

// An Image is one that is here.
type Image struct {
	ID     string // {image}: the first 12 hex digits of Digest
	Digest string // of the config, 64 hex digits
	Config *v1.ConfigFile
	Layers []Layer // the lowest first
}

// A Layer is one changeset of an image. Digests are "sha256:" and 64 hex digits.
type Layer struct {
	Digest  string // of the layer as it was sent, compressed
	DiffID  string // of the tar archive inside
	ChainID string // of the layer with all below it
	Size    int64  // bytes, as it was sent
	Files   int64  // bytes of all its files, unpacked

	// Entries, compared with the layers below.
	Added, Updated, Deleted int
}

// Open reads an image that is here.
func Open(d dirs.Dirs, image string) (Image, error) {
	manifest, config, raw, err := readManifest(d.Image(image), image)
	if err != nil {
		return Image{}, advice.Add(err, "remove the image and pull it again")
	}
	img := Image{ID: image, Digest: sum(raw), Config: config}
	for i, chainID := range chainIDs(config.RootFS.DiffIDs) {
		layer, err := readLayer(d, "sha256:"+chainID)
		if err != nil && !dirs.Lost(err) {
			return Image{}, fmt.Errorf("image %s: read its layer %s: %w", image, manifest.Layers[i], err)
		}
		if err != nil {
			return Image{}, advice.Add(fmt.Errorf("image %s: %w: its layer %s: %w", image, ErrDamaged, manifest.Layers[i], err),
				"a layer of this image is gone; pull it again")
		}
		img.Layers = append(img.Layers, layer)
	}
	return img, nil
}

// Stack returns the folders of the image's layers, the lowest first.
func (img Image) Stack(d dirs.Dirs) Stack {
	stack := make(Stack, len(img.Layers))
	for i, layer := range img.Layers {
		stack[i] = fsOf(d, layer.ChainID)
	}
	return stack
}

// readLayer reads what is known of a layer that is here, and sees that it has its files.
func readLayer(d dirs.Dirs, chainID string) (layer Layer, err error) {
	fs := fsOf(d, chainID)
	if err = dirs.ReadJSON(filepath.Join(filepath.Dir(fs), "layer.json"), &layer); err == nil {
		_, err = os.Stat(fs)
	}
	return layer, err
}

// OpenBlob opens the layer with this digest, as it was sent. In layers that are here it looks for it by digest: the same
// layer on top of others is another folder, but the same blob.
func OpenBlob(d dirs.Dirs, digest string) (Stream, error) {
	folders, err := dirs.Glob(d.Layers(), "*")
	if err != nil {
		return nil, err
	}
	for _, folder := range folders {
		layer, err := readLayer(d, "sha256:"+filepath.Base(folder))
		if err != nil || layer.Digest != digest {
			continue
		}
		f, err := os.Open(filepath.Join(folder, "blob"))
		return packaged{f}, err
	}
	return nil, fmt.Errorf("layer %s: %w", digest, os.ErrNotExist)
}

func fsOf(d dirs.Dirs, chainID string) string {
	return filepath.Join(d.Layer(strings.TrimPrefix(chainID, "sha256:")), "fs")
}

// layerNames are the {layer} of an image's layers: the first 12 digits of their names in the manifest, which are a
// digest ("59bf1c3509f3….tar.gz"), or a folder named by a v1 ID ("47d7af55c64c…/layer.tar") in archives of the older
// kind. An archive that was made by hand may have a "layer.tar" in no folder, or a name with nothing before its dot: it is
// "layer". An image may have the same layer twice; the second is named …-2.
func layerNames(manifest tarball.Descriptor) []string {
	taken := map[string]bool{}
	var names []string
	for _, file := range manifest.Layers {
		base := path.Base(file)
		if folder := path.Base(path.Dir(file)); base == "layer.tar" && folder != "." {
			base = folder
		}
		base, _, _ = strings.Cut(base, ".")
		if base = dirs.Short(strings.TrimPrefix(base, "sha256:")); base == "" && file != "" {
			base = "layer"
		}
		name := base
		for n := 2; taken[name]; n++ {
			name = fmt.Sprintf("%s-%d", base, n)
		}
		taken[name] = true
		names = append(names, name)
	}
	return names
}

// readManifest reads and checks manifest.json and the config in dir: tmp/{image} or images/{image}.
func readManifest(dir, image string) (tarball.Descriptor, *v1.ConfigFile, []byte, error) {
	fail := func(err error) (tarball.Descriptor, *v1.ConfigFile, []byte, error) {
		return tarball.Descriptor{}, nil, nil, fmt.Errorf("read %q: %w", filepath.Join(dir, "manifest.json"), err)
	}
	raw, err := ReadInside(dir, "manifest.json")
	if err != nil {
		return fail(fmt.Errorf("%w: %w", ErrManifest, err))
	}
	var all tarball.Manifest
	if err := json.Unmarshal(raw, &all); err != nil {
		return fail(fmt.Errorf("%w: %w", ErrManifest, err))
	}
	if len(all) != 1 {
		return fail(fmt.Errorf("%w: it has %d images, wanted 1", ErrManifest, len(all)))
	}
	manifest := all[0]
	rawConfig, err := ReadInside(dir, manifest.Config)
	if errors.Is(err, os.ErrNotExist) {
		// In images/ the config has its plain hash as name, whatever the package called it.
		name := strings.TrimSuffix(strings.TrimPrefix(path.Base(manifest.Config), "sha256:"), ".json") + ".json"
		rawConfig, err = ReadInside(dir, name)
	}
	if err != nil {
		return fail(fmt.Errorf("%w: config %q: %w", ErrManifest, manifest.Config, err))
	}
	if got := sum(rawConfig); dirs.Short(got) != image {
		return fail(fmt.Errorf("%w: config %q has the digest sha256:%s, wanted %s…", ErrDigest, manifest.Config, got, image))
	}
	config, err := parseConfig(manifest, rawConfig)
	if err != nil {
		return fail(err)
	}
	return manifest, config, rawConfig, nil
}

// openInside opens a file that an archive brought along. The name, and what a link of that name leads to, are the
// archive's own words: os.Root keeps both inside dir, and what is no file (a fifo would block us forever) is refused.
func openInside(dir, name string) (*os.File, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%q is no regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// maxJSON is the most that a manifest or a config may have, in bytes. Real ones have some kilobytes.
const maxJSON = 8 << 20

// ReadInside reads a small file that an archive brought along: see openInside.
func ReadInside(dir, name string) ([]byte, error) {
	f, err := openInside(dir, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxJSON+1))
	if err == nil && len(raw) > maxJSON {
		err = fmt.Errorf("%q is larger than %d bytes", name, maxJSON)
	}
	return raw, err
}

// chainIDs computes what names a layer together with all below it: the lowest layer's diffID, and then always
// sha256(chainID of what is below + " " + diffID).
func chainIDs(diffIDs []v1.Hash) []string {
	var ids []string
	for i, diffID := range diffIDs {
		if i == 0 {
			ids = append(ids, diffID.Hex)
		} else {
			ids = append(ids, sum([]byte("sha256:"+ids[i-1]+" "+diffID.String())))
		}
	}
	return ids
}

func sum(data []byte) string {
	h := sha256.Sum256(data)
	return hex.EncodeToString(h[:])
}
