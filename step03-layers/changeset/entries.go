//go:build linux

package changeset

import (
	"archive/tar"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"gocker/step02-untar/untar"
	"gocker/step03-layers/merged"
)

// entry notes a whiteout and writes anything else.
func (u *unpacker) entry(header *tar.Header, content io.Reader) error {
	if err := u.limit.Entry(header); err != nil {
		return err
	}
	name, err := u.w.Clean(header.Name)
	if err != nil {
		return err
	}
	dir, err := u.resolve(path.Dir(name))
	if err != nil {
		return err
	}
	if dir == aufsLinks && header.Typeflag == tar.TypeReg {
		return u.aufsLink(header, content)
	}
	for in := range strings.SplitSeq(dir, "/") {
		switch {
		case strings.HasPrefix(in, WhiteoutMeta):
			return nil
		case strings.HasPrefix(in, WhiteoutPrefix):
			return fmt.Errorf("%w: it lies in the whiteout %q", untar.ErrArchive, in)
		}
	}
	base := path.Base(name)
	name = path.Join(dir, base)
	if strings.HasPrefix(base, WhiteoutPrefix) {
		return u.noteWhiteout(dir, base)
	}
	if header.Typeflag == tar.TypeChar && header.Devmajor == 0 && header.Devminor == 0 {
		return fmt.Errorf("%w: a device 0/0, which overlayfs would take for a whiteout", untar.ErrArchive)
	}
	for key := range header.PAXRecords {
		if merged.IsOverlays(strings.TrimPrefix(key, "SCHILY.xattr.")) {
			delete(header.PAXRecords, key)
		}
	}
	if header.Typeflag == tar.TypeLink {
		if err := u.linkTarget(header); err != nil {
			return err
		}
	}
	if header.Typeflag != tar.TypeReg {
		u.lastDir = "" // a link may lead elsewhere, or take another's place
	}
	if header.Typeflag == tar.TypeDir {
		if info, err := u.w.Lstat(name); err == nil && !info.IsDir() {
			u.whiteouts[name] = true // the first of the two entries has replaced what lies below
		}
	}
	header.Name = name
	u.top = u.top || name == "."
	delete(u.leftOut, name)
	delete(u.devices, name)
	u.counted.Files += header.Size
	err = u.w.Write(header, content)
	if err == nil && (header.Typeflag == tar.TypeChar || header.Typeflag == tar.TypeBlock) {
		err = u.noteDevice(name)
	}
	return err
}

// noteDevice notes a device that was left out. All the same it has replaced what lies below.
func (u *unpacker) noteDevice(name string) error {
	if info, _ := merged.Lstat(u.to, name); info != nil {
		return nil
	}
	u.devices[name], u.whiteouts[name] = true, true
	return u.names.Keep(name)
}

func (u *unpacker) keepDevices() error { return merged.KeepDevices(u.to, u.devices) }

// resolve follows the links that a folder's name goes through, as the container will: "bin/x" is "usr/bin/x" where
// this layer or one below has the link bin -> usr/bin. Entries of one folder come together, so the last is kept.
func (u *unpacker) resolve(dir string) (string, error) {
	if dir == u.lastDir {
		return u.lastDirResolved, nil
	}
	if info, _ := merged.Lstat(u.to, dir); info != nil && info.IsDir() {
		u.lastDir, u.lastDirResolved = dir, dir // no part of the name is a link, and no layer below can make it one
		return dir, nil
	}
	if err := u.waitForBelow(); err != nil {
		return "", err
	}
	// A link that this layer has deleted leads nowhere any more: what is behind its name is a new folder.
	known, added := dir, "."
	for at := dir; at != "."; at = path.Dir(at) {
		info, _ := merged.Lstat(u.to, at)
		if info != nil {
			break // and so are all folders on the way to it
		}
		if u.whiteouts[at] || u.opaque[path.Dir(at)] {
			known, added = path.Dir(at), strings.TrimPrefix(dir, path.Dir(at)+"/")
		}
	}
	resolved, err := append(slices.Clone(u.below), u.to).Resolve(known)
	if err != nil {
		return "", err
	}
	u.lastDir, u.lastDirResolved = dir, path.Join(resolved, added)
	return u.lastDirResolved, nil
}

// makeParent makes a folder that the archive left out. copyFolders finds out what it looks like.
func (u *unpacker) makeParent(name string) error {
	if err := u.limit.Entry(&tar.Header{}); err != nil {
		return err
	}
	u.leftOut[name] = true
	return u.w.Write(leftOut(name), nil)
}

// NoTime is the time of a folder of which no layer says anything. It is not now: several processes may unpack a layer at
// once, and the copy of one is kept below the layer of another that looks like it.
var NoTime = time.Unix(0, 0)

// leftOut is the entry of a folder of which no layer says anything.
func leftOut(name string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: NoTime}
}

// copyFromBelow copies a file, or a folder without its contents, with all its attributes.
func (u *unpacker) copyFromBelow(name, to string) error {
	i, info := u.below.Find(name)
	from, done := merged.At(u.below[i], name)
	defer done()
	header, err := merged.Header(from)
	if err != nil {
		return err
	}
	header.Name = to
	if err := u.limit.Entry(header); err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return u.w.Write(header, nil)
	}
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	return u.w.Write(header, f)
}

// copyRoot makes the top folder look like that below, where the layer says nothing about it: the merged root folder
// looks like the topmost layer's.
func (u *unpacker) copyRoot() error {
	switch i, _ := u.below.Find("."); {
	case u.top:
		return nil
	case i < 0:
		return u.w.Write(leftOut("."), nil)
	}
	return u.copyFromBelow(".", ".")
}

// copyFolders makes the folders that the archive left out look like those below, but where the layer deletes them: then
// they are new.
func (u *unpacker) copyFolders() error {
	for _, name := range slices.Sorted(maps.Keys(u.leftOut)) {
		if i, below := u.below.Find(name); i < 0 || !below.IsDir() || u.hides(name) {
			continue
		}
		if info, _ := merged.Lstat(u.to, name); info == nil || !info.IsDir() {
			continue // a later entry has replaced it
		}
		if err := u.copyFromBelow(name, name); err != nil {
			return err
		}
	}
	return nil
}
