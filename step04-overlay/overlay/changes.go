//go:build linux

package overlay

import (
	"io/fs"
	"path/filepath"
	"slices"

	"gocker/step03-layers/layers"
)

// A Change is one name that a container changed, with docker diff's letters.
type Change struct {
	Kind byte // 'A' added, 'C' changed, 'D' deleted
	Path string
	What string // how upperdir says it: "character device 0/0", "regular file", …
}

// Changes lists what is in upperdir.
func (f *FS) Changes() ([]Change, error) {
	var changes []Change
	err := filepath.WalkDir(f.Upperdir(), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(f.Upperdir(), path)
		if err != nil || name == "." {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		below, _ := f.Lower.Find(name)
		change := Change{Kind: 'A', Path: "/" + name, What: what(path, info)}
		if layers.IsWhiteout(info) {
			change.Kind = 'D'
		} else if below >= 0 {
			change.Kind = 'C'
		}
		changes = append(changes, change)
		return nil
	})
	return changes, err
}

func what(path string, info fs.FileInfo) string {
	switch mode := info.Mode(); {
	case layers.IsWhiteout(info):
		return "character device 0/0, a whiteout"
	case mode.IsDir() && layers.IsOpaque(path):
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
