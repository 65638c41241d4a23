// Step 1: a name becomes an image, and the image becomes one file.
//
//	go run ./step01-pull [--platform OS/ARCH] [--mirror HOST] [--older] [IMAGE]
package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/lesson"
)

func main() { lesson.Main("step01-pull", run) }

func run(ctx context.Context, _ io.Reader, stdout io.Writer, args []string) error {
	var d dirs.Dirs
	flags := lesson.Flags(stdout, &d, "step01-pull [flags] [IMAGE]", "Pulls an image into one file, package.tar.")
	wanted := flags.String("platform", pull.HostPlatform().String(), "`os/arch[/variant]`, if the name stands for several images")
	mirror := flags.String("mirror", "", "ask this registry instead of the image's own: `host[:port]`")
	older := flags.Bool("older", false, "write the older kind of archive, whose layers are named by their v1 IDs")
	ref, err := lesson.Parse(flags, args)
	if err != nil {
		return err
	}
	ref.Mirror = *mirror
	platform, err := v1.ParsePlatform(*wanted)
	if err != nil {
		return fmt.Errorf("--platform %q: %w", *wanted, err)
	}
	archive := pull.Newer
	if *older {
		archive = pull.Older
	}

	fmt.Fprintf(stdout, "1. The reference %s is short for %s\n", cmp.Or(flags.Arg(0), pull.Sample), ref.Full())
	showRegistry(stdout, ref)
	img, err := pull.Image(ctx, ref, platform)
	if err != nil {
		return err
	}

	fmt.Fprintf(stdout, "2. Its manifest says what the image is made of\n")
	if err := showManifest(stdout, img); err != nil {
		return err
	}

	image, lock, err := pull.Save(d, ref, img, archive)
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
