package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/go-units"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/sample"
)

// showRegistry names the registry that is asked, if it is another one than the name's.
func showRegistry(stdout io.Writer, ref pull.Reference) {
	if ref.Mirror != "" {
		fmt.Fprintf(stdout, "   asked for at %s\n", ref.Mirror)
	}
	if !ref.IsSample() {
		return
	}
	fmt.Fprintf(stdout, "   but %s is special: made of this machine's own programs, served by a registry inside this process\n", pull.Sample)
	if _, missing, err := sample.Image(); err == nil && len(missing) > 0 {
		fmt.Fprintf(stdout, "   left out, as this machine has none: %s\n", strings.Join(missing, ", "))
	}
}

func showManifest(stdout io.Writer, img v1.Image) error {
	manifest, err := img.Manifest()
	if err != nil {
		return err
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "   manifest  %s  %s\n", digest, manifest.MediaType)
	fmt.Fprintf(stdout, "   config    %s  %s  %s\n", manifest.Config.Digest, manifest.Config.MediaType, size(manifest.Config.Size))
	for i, layer := range manifest.Layers {
		fmt.Fprintf(stdout, "   layer %-3d %s  %s  %s\n", i+1, layer.Digest, layer.MediaType, size(layer.Size))
	}
	return nil
}

func showFolder(stdout io.Writer, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "   %s  %s\n", filepath.Join(dir, e.Name()), size(info.Size()))
	}
	return nil
}

func size(bytes int64) string { return units.HumanSize(float64(bytes)) }
