//go:build linux

package changeset

import (
	"io/fs"
	"os"
	"path"
	"strings"

	"gocker/step03-layers/merged"
)

// isEntry tells whether the archive has an entry for a name that the folder has before whiteouts and copies from below are in it.
func (u *unpacker) isEntry(name string) bool {
	return (name != "." || u.top) && !u.leftOut[name] && !strings.HasPrefix(path.Base(name), WhiteoutMeta)
}

// inArchive tells whether the archive has an entry for a name.
func (u *unpacker) inArchive(name string) bool {
	file, done := merged.At(u.to, name)
	defer done()
	_, err := os.Lstat(file)
	return err == nil && u.isEntry(name)
}

// count compares the layer with what is below it, before whiteouts and copies from below are in it. The names are read from the
// folder: to keep those of a million files in memory would take much of it.
func (u *unpacker) count() error {
	below := map[string]bool{} // is the folder there? Of most files not even that is: so most need no look
	visit := func(name string, _ *os.File, _ fs.DirEntry) error {
		if !u.isEntry(name) {
			return nil
		}
		dir := path.Dir(name)
		if _, known := below[dir]; !known {
			i, info := u.below.Find(dir)
			below[dir] = i >= 0 && info.IsDir()
		}
		i := -1
		if below[dir] {
			i, _ = u.below.Find(name)
		}
		if i < 0 {
			u.counted.Added++
		} else {
			u.counted.Updated++
		}
		return nil
	}
	visit(".", nil, nil)
	if err := merged.Walk(u.to, visit); err != nil {
		return err
	}
	for name := range u.whiteouts {
		if i, _ := u.below.Find(name); i >= 0 && !u.inArchive(name) {
			u.counted.Deleted++
		}
	}
	for dir := range u.opaque {
		for _, name := range u.below.Names(dir) {
			if name := path.Join(dir, name); !u.inArchive(name) && !u.whiteouts[name] {
				u.counted.Deleted++
			}
		}
	}
	return nil
}
