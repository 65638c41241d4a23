// Step 1: a name becomes an image, and the image becomes one file.
//
//	go run ./step01-pull [--platform OS/ARCH] [IMAGE]
package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/go-units"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/sample"
	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/lesson"
)

func main() { lesson.Main("step01-pull", run) }

func run(ctx context.Context, _ io.Reader, stdout io.Writer, args []string) error {
	var d dirs.Dirs
	flags := lesson.Flags(stdout, &d, "step01-pull [flags] [IMAGE]", "Pulls an image into one file, package.tar.")
	wanted := flags.String("platform", pull.HostPlatform().String(), "which one, of a name that stands for several: `os/arch[/variant]`")
	ref, err := lesson.Parse(flags, args, "")
	if err != nil {
		return err
	}
	platform, err := v1.ParsePlatform(*wanted)
	if err != nil {
		return fmt.Errorf("--platform %q: %w", *wanted, err)
	}

	fmt.Fprintf(stdout, "1. The reference %s is short for %s\n", cmp.Or(flags.Arg(0), pull.Sample), ref.Full())
	if ref.IsSample() {
		sayWhereSampleIsFrom(stdout)
	}
	img, err := pull.Image(ctx, ref, platform)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "2. Its manifest says what the image is made of\n")
	if err := showManifest(stdout, img); err != nil {
		return err
	}
	image, lock, err := pull.Save(d, ref, img)
	if err != nil {
		return err
	}
	defer lock.Close()
	fmt.Fprintf(stdout, "3. Config and layers are fetched and checked; {image}, the first 12 digits of the config's digest, is %s\n", image)
	if err := showFolder(stdout, d.Tmp(image)); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "\nnext: go run ./step02-untar %s\n", strings.TrimSuffix(ref.String(), ":latest"))
	return nil
}

func sayWhereSampleIsFrom(stdout io.Writer) {
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
