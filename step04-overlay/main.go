//go:build linux

// Step 4: layers become one root file system, and every change goes to a folder of its own.
//
//	go run ./step04-overlay [-explain] [IMAGE [PATH…]]
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/term"

	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/lesson"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/road"
	"gocker/step03-layers/usernamespace"
	"gocker/step04-overlay/overlay"
	"gocker/step04-overlay/story"
)

func main() { lesson.Main("step04-overlay", usernamespace.Enter(run)) }

func run(ctx context.Context, stdin io.Reader, stdout io.Writer, args []string) error {
	var d dirs.Dirs
	flags := lesson.Flags(stdout, &d, "step04-overlay [flags] [IMAGE [PATH…]]",
		"Mounts the layers of an image as one file system, and says which layer each PATH comes from.")
	tell := story.Flag(flags, stdout)
	ref, err := lesson.Parse(flags, args)
	if err != nil {
		return err
	}
	if err := overlay.RemoveDead(d); err != nil {
		return err
	}
	img, err := road.Get(ctx, d, ref, lesson.Say(stdout))
	if err != nil {
		return err
	}

	paths := []string{"/bin/sh", "/etc/motd", "/etc/passwd"}
	if flags.NArg() > 1 {
		paths = flags.Args()[1:]
	}
	fmt.Fprintf(stdout, "1. Mounting %d layers of %s over each other\n", len(img.Layers), ref)
	f, err := overlay.Create(d, img)
	if err != nil {
		return err
	}
	f.Explain(*tell)
	err = use(ctx, stdin, stdout, f, img, paths)
	fmt.Fprintf(stdout, "4. Unmounting, and removing %s; the layers never changed\n", f.Dir)
	if err := errors.Join(err, f.Remove()); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "\nnext: go run ./step05-namespaces %s\n", strings.TrimSuffix(ref.String(), ":latest"))
	return nil
}

// use mounts the file system, looks where its files are from, and changes some.
func use(ctx context.Context, stdin io.Reader, stdout io.Writer, f *overlay.FS, img layers.Image, paths []string) error {
	if err := f.Mount(); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "   %s\n   has: %s\n", f.Mnt(), names(f.Mnt()))

	fmt.Fprintf(stdout, "2. Where is a file from?\n")
	for _, path := range paths {
		fmt.Fprintf(stdout, "   %-20s %s\n", path, origin(f, img, path))
	}

	fmt.Fprintf(stdout, "3. Adding /added, changing /etc/passwd, deleting /etc/group\n")
	if err := change(f.Mnt()); err != nil {
		return err
	}
	changes, err := f.Changes()
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "   %s\n   has now:\n", f.Upperdir())
	for _, c := range changes {
		fmt.Fprintf(stdout, "   %c %-14s %s\n", c.Kind, c.Path, c.What)
	}

	if in, ok := stdin.(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		fmt.Fprintf(stdout, "   Look around from another terminal; Enter unmounts and removes it all. ")
		lesson.Enter(ctx, in)
	}
	return nil
}

// change does what a container might do. Not every image has these files; what is not there is not changed.
func change(root string) error {
	// The image's files are somebody else's: a link among them could lead outside, so nothing follows one.
	inside, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer inside.Close()
	if err := inside.WriteFile("added", []byte("by step04-overlay\n"), 0o644); err != nil {
		return err
	}
	passwd, err := inside.OpenFile("etc/passwd", os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = passwd.WriteString("learner:x:1001:1001::/:/bin/sh\n")
		err = errors.Join(err, passwd.Close())
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := inside.Remove("etc/group"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func origin(f *overlay.FS, img layers.Image, path string) string {
	layer, resolved, err := f.Origin(path)
	via := ""
	if resolved != path {
		via = " (as " + resolved + ")"
	}
	switch {
	case err != nil:
		return err.Error()
	case layer < 0:
		return "no layer has it" + via
	case layer == len(img.Layers):
		return "upperdir" + via
	}
	return fmt.Sprintf("layer %d, %s%s", layer+1, img.Layers[layer].Digest, via)
}

func names(dir string) string {
	entries, _ := os.ReadDir(dir) // just mounted; an empty list would show
	var names []string
	for _, e := range entries {
		names = append(names, filepath.Base(e.Name()))
	}
	return strings.Join(names, " ")
}
