//go:build linux

package overlay

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gocker/step03-layers/merged"
)

// A Change is one name that a container changed, with docker diff's letters.
type Change struct {
	Kind  byte // 'A' added, 'C' changed, 'D' deleted
	Path  string
	What  string      // how upperdir says it: "character device 0/0", "regular file", …
	Below int         // index in Lower of the layer that the name was in before; -1 is none
	Info  fs.FileInfo // what is in upperdir; nil: nothing
}

// Changes lists what is in upperdir, and what is deleted by not being in it: an opaque folder hides the layers' names.
// The container may run, and go on with its changes.
func (f *FS) Changes() ([]Change, error) {
	var changes []Change
	opaque := map[string]bool{} // overlayfs marks only the uppermost
	err := Walk(f.Upperdir(), func(name, path string, info fs.FileInfo) error {
		below, was := f.Lower.Find(name)
		change := Change{Kind: 'A', Path: "/" + name, What: what(path, info), Below: below, Info: info}
		if merged.IsWhiteout(info) {
			change.Kind = 'D'
		} else if below >= 0 {
			change.Kind = 'C'
		}
		changes = append(changes, change)
		if !info.IsDir() || below < 0 || !was.IsDir() || !opaque[filepath.Dir(name)] && !merged.IsOpaque(path) {
			return nil
		}
		opaque[name] = true
		for _, hidden := range f.Lower.Names(name) {
			if _, err := os.Lstat(filepath.Join(path, hidden)); errors.Is(err, fs.ErrNotExist) {
				below, _ := f.Lower.Find(filepath.Join(name, hidden))
				changes = append(changes, Change{Kind: 'D', Path: "/" + filepath.Join(name, hidden), What: "not in an opaque directory", Below: below})
			}
		}
		return nil
	})
	slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.Path, b.Path) })
	return changes, err
}

func what(path string, info fs.FileInfo) string {
	switch mode := info.Mode(); {
	case merged.IsWhiteout(info):
		return "character device 0/0, a whiteout"
	case mode.IsDir() && merged.IsOpaque(path):
		return "directory, opaque"
	case mode.IsDir():
		return "directory"
	case mode.IsRegular():
		return "regular file"
	case mode&fs.ModeSymlink != 0:
		return "symbolic link"
	case mode&fs.ModeNamedPipe != 0:
		return "fifo"
	case mode&fs.ModeSocket != 0:
		return "socket"
	case mode&fs.ModeCharDevice != 0:
		return "character device"
	}
	return "block device"
}

// Origin returns which layer a name of the merged view comes from, once its links are followed: 0 is the image's
// lowest, len(Lower) is upperdir, -1 is none: there is no such name.
func (f *FS) Origin(name string) (layer int, resolved string, err error) {
	stack := append(slices.Clone(f.Lower), f.Upperdir())
	if resolved, err = stack.Resolve(name); err != nil {
		return -1, "", err
	}
	layer, _ = stack.Find(resolved)
	return layer, "/" + resolved, nil
}
