//go:build linux

package changeset

import (
	"archive/tar"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"syscall"

	"gocker/step02-untar/untar"
	"gocker/step03-layers/merged"
)

// linkTarget makes sure that a hard link has something to link to. Layers below are shared and cannot get one name more:
// a file of theirs is copied to a name that no entry can have, and at the end shareLinks takes care of its other names.
func (u *unpacker) linkTarget(header *tar.Header) error {
	target, err := u.w.Clean(header.Linkname)
	if err != nil {
		return fmt.Errorf("%w: it is a hard link to %q", err, header.Linkname)
	}
	dir, err := u.resolve(path.Dir(target))
	if err != nil {
		return err
	}
	target = path.Join(dir, path.Base(target))
	if dir == aufsLinks && u.aufs[path.Base(target)] != "" {
		target = u.aufs[path.Base(target)]
	}
	header.Linkname = target
	missing := u.devices[target]
	if info, _ := merged.Lstat(u.to, target); info != nil {
		return nil
	}
	if !missing {
		if err := u.waitForBelow(); err != nil {
			return err
		}
		if missing, err = u.below.HasLeftOut(target); err != nil {
			return err
		}
	}
	if missing { // then the link is left out as well
		header.Typeflag, header.Linkname, header.Devmajor = tar.TypeChar, "", 1
		return nil
	}
	i, info := u.below.Find(target)
	if i < 0 {
		return fmt.Errorf("%w: it is a hard link to %q, which neither this layer nor one below has", untar.ErrArchive, target)
	}
	if info.IsDir() {
		return fmt.Errorf("%w: it is a hard link to the folder %q", untar.ErrArchive, target)
	}
	id := fileID{i, info.Sys().(*syscall.Stat_t).Ino}
	l, ok := u.links[id]
	if !ok {
		l = linked{target, info.Sys().(*syscall.Stat_t).Nlink > 1, fmt.Sprint(WhiteoutMeta, len(u.links))}
		u.links[id] = l
		err = u.copyFromBelow(target, l.copy)
	}
	header.Linkname = l.copy
	return err
}

// aufsLinks is a folder that no image has: aufs kept a file there that had several names, and layers of its time have the
// file, and hard links to it.
const aufsLinks = WhiteoutMeta + "plnk"

// aufsLink writes such a file under a name that no entry can have, until the end.
func (u *unpacker) aufsLink(header *tar.Header, content io.Reader) error {
	name := path.Base(header.Name)
	if u.aufs[name] == "" {
		u.aufs[name] = fmt.Sprint(aufsLinks, len(u.aufs))
	}
	header.Name = u.aufs[name]
	u.counted.Files += header.Size
	return u.w.Write(header, content)
}

// A linked file is one of a layer below that a hard link of this layer leads to.
type linked struct {
	name string // one of its names
	more bool   // it has others
	copy string // where it is in this layer until the end
}

type fileID struct {
	layer int
	ino   uint64
}

// shareLinks makes those names of the linked files that stay visible names of the copies: the merged view shall have
// one file, not two. See layer.md, "Hardlinks".
func (u *unpacker) shareLinks() error {
	names, err := u.linkedNames()
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		id := names[name]
		i, _ := u.below.Find(name)
		own, replaced := merged.Lstat(u.to, name)
		if i != id.layer || own != nil || replaced || u.hides(name) {
			continue
		}
		if err := u.w.Write(&tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: u.links[id].copy}, nil); err != nil {
			return err
		}
	}
	copies := slices.Collect(maps.Values(u.aufs))
	for _, l := range u.links {
		copies = append(copies, l.copy)
	}
	for _, name := range copies {
		if err := u.w.Root.Remove(name); err != nil {
			return err
		}
	}
	return nil
}

// linkedNames finds all names of the linked files. Only a walk through the layer finds those of a file that has many.
func (u *unpacker) linkedNames() (map[string]fileID, error) {
	names, walk := map[string]fileID{}, map[int]bool{}
	for id, l := range u.links {
		names[l.name] = id
		if l.more {
			walk[id.layer] = true
		}
	}
	for _, i := range slices.Sorted(maps.Keys(walk)) {
		err := merged.Walk(u.below[i], func(name string, _ *os.File, entry fs.DirEntry) error {
			if entry.IsDir() {
				return nil
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			id := fileID{i, info.Sys().(*syscall.Stat_t).Ino}
			if _, ok := u.links[id]; ok {
				names[name] = id
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return names, nil
}
