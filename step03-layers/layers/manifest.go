//go:build linux

package layers

import (
	"crypto/sha256"
	"encoding/hex"
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

	"gocker/step01-pull/shared/dirs"
)

// Names are the {layer} of an image's layers: the first 12 digits of their names in the manifest, which are a
// digest ("59bf1c3509f3….tar.gz"), or a folder named by a v1 ID ("47d7af55c64c…/layer.tar") in archives of the older
// kind. An archive that was made by hand may have a "layer.tar" in no folder, or a name with nothing before its dot: it is
// "layer". An image may have the same layer twice; the second is named …-2.
func Names(manifest tarball.Descriptor) []string {
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

// ReadManifest reads and checks manifest.json and the config in dir: tmp/{image} or images/{image}.
func ReadManifest(dir, image string) (tarball.Descriptor, *v1.ConfigFile, []byte, error) {
	fail := func(err error) (tarball.Descriptor, *v1.ConfigFile, []byte, error) {
		return tarball.Descriptor{}, nil, nil, fmt.Errorf("read %q: %w", filepath.Join(dir, "manifest.json"), err)
	}
	raw, err := ReadInside(dir, "manifest.json")
	if err != nil {
		return fail(fmt.Errorf("%w: %w", ErrManifest, err))
	}
	var all tarball.Manifest
	if err := dirs.ParseJSON(raw, &all); err != nil {
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

// parseConfig reads the config and sees that it fits the manifest.
func parseConfig(manifest tarball.Descriptor, raw []byte) (*v1.ConfigFile, error) {
	config := &v1.ConfigFile{}
	if err := dirs.ParseJSON(raw, config); err != nil {
		return nil, fmt.Errorf("%w: config %q: %w", ErrManifest, manifest.Config, err)
	}
	if config.RootFS.Type != "layers" && len(manifest.Layers) > 0 {
		return nil, fmt.Errorf("%w: its root file system is of the type %q", ErrManifest, config.RootFS.Type)
	}
	if len(manifest.Layers) != len(config.RootFS.DiffIDs) {
		return nil, fmt.Errorf("%w: it lists %d layers, the config %d", ErrManifest, len(manifest.Layers), len(config.RootFS.DiffIDs))
	}
	for _, name := range Names(manifest) {
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

// ChainIDs computes what names a layer together with all below it: the lowest layer's diffID, and then always
// sha256(chainID of what is below + " " + diffID).
func ChainIDs(diffIDs []v1.Hash) []string {
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
