//go:build linux

package overlay

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"gocker/step03-layers/merged"
	"gocker/step04-overlay/story"
)

// An event is something that was done, and that the story tells of.
type event int

const (
	mounted event = iota
	unmounted
	removed
)

// Explain has tell hear how the file system was made, and from now on all that is done with it.
func (f *FS) Explain(tell story.Story) {
	if f.Tell = tell; tell == nil {
		return
	}
	image := filepath.Join(f.Dir, "image")
	target, _ := os.Readlink(image) // Create made it a moment ago
	tell.Run(story.Host, "a folder that only root may enter: an image may have setuid programs", "mkdir", "-m", "700", f.Dir)
	tell.Sh(story.Host, "the lock says that somebody has the container", "exec 9<"+story.Quote(f.Dir)+" && flock 9")
	tell.Run(story.Host, "folders for the container's view, for its changes, and for overlayfs itself", "mkdir", "-p", f.Mnt(), f.Upperdir(), f.Workdir())
	tell.Run(story.Host, "this link says that the image is in use", "ln", "-s", target, image)
	if len(f.Lower) == 0 {
		tell.Run(story.Host, "the image has no layers, and overlayfs wants one", "mkdir", f.none())
		return
	}
	top := f.Lower[len(f.Lower)-1]
	tell.Sh(story.Host, "upperdir is on top, so the root folder gets its owner and mode from there",
		story.Quote("tar", "-C", top, "--xattrs", "--no-recursion", "-c", ".")+" | "+
			story.Quote("tar", "-C", f.Upperdir(), "--xattrs", "-x", "-p"))
}

// did tells of what was done, if somebody listens.
func (f *FS) did(what event) {
	switch {
	case f.Tell == nil:
	case what == unmounted:
		f.Tell.Run(story.After, "the layers did not change", "umount", "-l", f.Mnt())
	case what == removed:
		f.Tell.Run(story.After, "the container's folder, with all its changes", "rm", "-rf", f.Dir)
	case what == mounted:
		about := fmt.Sprintf("%d layers over each other, the topmost first, and all changes go to upperdir", len(f.Lower))
		mount := func(lower merged.Stack) string {
			return story.Quote("mount", "-t", "overlay", "-o", "nodev,"+f.options(lower), "overlay", f.Mnt())
		}
		if f.optionsFit() {
			f.Tell.Sh(story.Host, about, mount(f.Lower))
			return
		}
		links := filepath.Join(f.Dir, "lower")
		var short merged.Stack
		for i := range f.Lower {
			short = append(short, strconv.Itoa(i))
		}
		f.Tell.Sh(story.Host, about, "("+story.Quote("mkdir", links)+" && "+story.Quote("cd", links)+" && n=0\n for layer in "+
			story.Quote(f.Lower...)+"; do ln -s \"$layer\" $n; n=$((n+1)); done\n "+
			mount(short)+" && "+story.Quote("rm", "-r", links)+")")
	}
}
