//go:build linux

// Step 3: layers become folders that can be laid over each other, and the image gets its name.
//
//	go run ./step03-layers [IMAGE]
//	go run ./step03-layers --list
//	go run ./step03-layers --remove [IMAGE]
package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/docker/go-units"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/lesson"
	"gocker/step02-untar/untar"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/leftover"
	"gocker/step03-layers/local"
	"gocker/step03-layers/usernamespace"
)

func main() { lesson.Main("step03-layers", usernamespace.Enter(run)) }

func run(ctx context.Context, _ io.Reader, stdout io.Writer, args []string) error {
	var d dirs.Dirs
	flags := lesson.Flags(stdout, &d, "step03-layers [flags] [IMAGE]", "Unpacks the layers of an image that step02-untar laid out.")
	list := flags.Bool("list", false, "list the images that are here")
	remove := flags.Bool("remove", false, "remove IMAGE")
	ref, err := lesson.Parse(flags, args)
	if err != nil {
		return err
	}
	switch {
	case *list:
		return showImages(stdout, d)
	case *remove:
		return removeImage(stdout, d, ref)
	}
	return unpackImage(ctx, stdout, d, ref)
}

func unpackImage(ctx context.Context, stdout io.Writer, d dirs.Dirs, ref pull.Reference) error {
	image, lock, err := lesson.Package(ctx, d, ref, lesson.Say(stdout))
	if err != nil {
		return err
	}
	defer lock.Close()
	if _, err := os.Stat(filepath.Join(d.Tmp(image), "manifest.json")); err != nil {
		fmt.Fprintf(stdout, "package.tar is not unpacked yet: doing it, as step02-untar does\n")
		if err := untar.Package(d, image); err != nil {
			return err
		}
	}
	fmt.Fprintf(stdout, "1. Reading manifest.json in %s, and the config that it names\n", d.Tmp(image))
	source, err := layers.Read(d, image)
	if err != nil {
		return err
	}
	in, err := layers.Begin(d, source)
	if err != nil {
		return err
	}
	defer in.Discard()
	fmt.Fprintf(stdout, "   image %s is for %s and has %d layers\n", in.ID, in.Config.Platform(), len(in.Layers))

	fmt.Fprintf(stdout, "2. Unpacking each layer, the lowest first\n")
	for i := range in.Layers {
		if err := in.Unpack(ctx, i); err != nil {
			return err
		}
		showLayer(stdout, i+1, in.Layers[i])
	}

	fmt.Fprintf(stdout, "3. Keeping manifest, config and links to the layers in %s\n", d.Image(image))
	if err := in.Keep(); err != nil {
		return err
	}
	if err := showFolder(stdout, d.Image(image)); err != nil {
		return err
	}

	fmt.Fprintf(stdout, "4. Entering the image in %s\n", d.ImagesJSON())
	if err := layers.Tag(d, image, ref); err != nil {
		return err
	}
	if err := showImages(stdout, d); err != nil {
		return err
	}

	fmt.Fprintf(stdout, "5. Removing %s\n", d.Tmp(image))
	if err := dirs.RemoveAll(d.Tmp(image)); err != nil {
		return err
	}
	if err := leftover.Sweep(d); err != nil { // and what crashed commands have left
		return err
	}
	fmt.Fprintf(stdout, "\nnext: go run ./step04-overlay %s\n", strings.TrimSuffix(ref.String(), ":latest"))
	return nil
}

func showLayer(stdout io.Writer, n int, l layers.Layer) {
	fmt.Fprintf(stdout, "   layer %d    %s, %d added, %d updated, %d deleted\n", n, units.HumanSize(float64(l.Size)), l.Added, l.Updated, l.Deleted)
	if l.LeftOut != "" {
		fmt.Fprintf(stdout, "     left out %s: this file system has no place for it, or only root may make it\n", l.LeftOut)
	}
	fmt.Fprintf(stdout, "     digest   %s  the archive as it was sent\n", l.Digest)
	fmt.Fprintf(stdout, "     diffID   %s  the tar inside\n", l.DiffID)
	fmt.Fprintf(stdout, "     chainID  %s  with all layers below\n", l.ChainID)
}

func showFolder(stdout io.Writer, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil {
			fmt.Fprintf(stdout, "   %s\n", e.Name())
			continue
		}
		fmt.Fprintf(stdout, "   %s -> %s\n", e.Name(), target)
	}
	return nil
}

func showImages(stdout io.Writer, d dirs.Dirs) error {
	names, err := layers.List(d)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "   NAME\tTAG\tIMAGE\n")
	for _, name := range slices.Sorted(maps.Keys(names)) {
		for _, tag := range slices.Sorted(maps.Keys(names[name])) {
			fmt.Fprintf(w, "   %s\t%s\t%s\n", name, tag, names[name][tag])
		}
	}
	return w.Flush()
}

func removeImage(stdout io.Writer, d dirs.Dirs, ref pull.Reference) error {
	untagged, deleted, err := local.Remove(d, ref, false)
	for _, name := range untagged {
		fmt.Fprintf(stdout, "Untagged: %s\n", name)
	}
	for _, id := range deleted {
		fmt.Fprintf(stdout, "Deleted: %s\n", id)
	}
	return err
}
