//go:build linux

package overlay

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"gocker/step03-layers/merged"
	"gocker/step04-overlay/check"
)

// mountByLinks is for layers whose names together are longer than a page: a folder has links 0, 1, 2, … to them, and a
// thread for which it is the working directory needs to say no more than these. So there can be as many as overlayfs
// takes, which are 500. The kernel keeps the folders, not their names: the links are gone afterwards.
func (f *FS) mountByLinks() error {
	return check.OnThread(func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil { // else all threads would go there
			return fmt.Errorf("unshare: %w", err)
		}
		return f.inLinks(func(lower merged.Stack) error { return f.mount(f.options(lower)) })
	})
}

// inLinks calls mount with the names of links to the layers, and changes the working directory of its thread.
func (f *FS) inLinks(mount func(lower merged.Stack) error) error {
	links := filepath.Join(f.Dir, "lower")
	if err := os.Mkdir(links, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(links)
	var short merged.Stack
	for i, layer := range f.Lower {
		name := strconv.Itoa(i)
		if err := os.Symlink(layer, filepath.Join(links, name)); err != nil {
			return err
		}
		short = append(short, name)
	}
	if err := unix.Chdir(links); err != nil {
		return fmt.Errorf("chdir %q: %w", links, err)
	}
	return mount(short)
}
