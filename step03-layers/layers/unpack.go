//go:build linux

package layers

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/advice"
	"gocker/step02-untar/untar"
)

// How a layer's tar archive spells what it deletes: see layer.md, "Whiteouts".
const (
	whiteoutPrefix = ".wh."
	whiteoutMeta   = ".wh..wh." // aufs kept files of its own under such names
	whiteoutOpaque = ".wh..wh..opq"
)

// overlayXattrs is what overlayfs understands on its layers. An archive has no business setting them: they hide
// files, or redirect folders, outside of what the layer's digest and any scanner can see.
const overlayXattrs = "trusted.overlay."

// An unpacker turns one layer's tar archive into a folder for overlayfs. Layers are unpacked side by side: most entries
// say all there is to know about a file, and in which folder of this same layer it lies. Where one does not, and at the
// end, wait is called: it returns the layers below once they are settled.
type unpacker struct {
	to    string // the folder
	wait  func() (Stack, error)
	layer *Layer // where entries are counted

	w         *untar.Writer
	below     Stack           // nil until it was waited for
	whiteouts map[string]bool // names that the layer deletes
	opaque    map[string]bool // folders in which it deletes all
	written   map[string]bool // names that it adds or updates

	lastDir, lastDirResolved string
}

// unpack reads the archive to its end and returns its diffID.
func (u *unpacker) unpack(archive io.Reader) (diffID string, err error) {
	plain := untar.Decompress(archive)
	defer plain.Close()
	hash := sha256.New()
	tee := io.TeeReader(plain, hash)

	u.w, err = untar.NewWriter(u.to)
	if err != nil {
		return "", err
	}
	defer u.w.Close()
	u.w.MakeParent = u.makeParent
	u.whiteouts, u.opaque, u.written = map[string]bool{}, map[string]bool{}, map[string]bool{}
	if err := untar.Each(tee, u.entry); err != nil {
		return "", err
	}
	// An archive ends before its bytes do: zeros follow, and they are part of the diffID.
	if _, err := io.Copy(io.Discard, tee); err != nil {
		return "", fmt.Errorf("%w: %w", untar.ErrArchive, err)
	}
	if err := u.needBelow(); err != nil {
		return "", err
	}
	if err := u.settle(); err != nil {
		return "", err
	}
	if err := u.w.Finish(); err != nil {
		return "", err
	}
	u.count()
	return "sha256:" + hex.EncodeToString(hash.Sum(nil)), nil
}

// needBelow is called before below is looked at.
func (u *unpacker) needBelow() (err error) {
	if u.below == nil {
		u.below, err = u.wait()
	}
	return err
}

// entry notes a whiteout and writes anything else.
func (u *unpacker) entry(header *tar.Header, content io.Reader) error {
	name, err := untar.Clean(header.Name)
	if err != nil {
		return err
	}
	dir, err := u.resolve(path.Dir(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	name = path.Join(dir, base)
	switch {
	case base == whiteoutOpaque:
		u.opaque[dir] = true
		return nil
	case strings.HasPrefix(base, whiteoutMeta):
		return nil
	case strings.HasPrefix(base, whiteoutPrefix):
		hidden := strings.TrimPrefix(base, whiteoutPrefix)
		if hidden == "" || hidden == "." || hidden == ".." {
			return fmt.Errorf("%w: a whiteout of %q", untar.ErrArchive, hidden)
		}
		u.whiteouts[path.Join(dir, hidden)] = true
		return nil
	}
	if header.Typeflag == tar.TypeChar && header.Devmajor == 0 && header.Devminor == 0 {
		return fmt.Errorf("%w: a device 0/0, which overlayfs would take for a whiteout", untar.ErrArchive)
	}
	for key := range header.PAXRecords {
		if strings.HasPrefix(key, "SCHILY.xattr."+overlayXattrs) {
			delete(header.PAXRecords, key)
		}
	}
	if header.Typeflag == tar.TypeLink {
		if err := u.linkTarget(header); err != nil {
			return err
		}
	}
	header.Name = name
	u.written[name] = true
	u.layer.Files += header.Size
	return u.w.Write(header, content)
}

// resolve follows the links that a folder's name goes through, as the container will: "bin/x" is "usr/bin/x" where
// this layer or one below has the link bin -> usr/bin. Entries of one folder come together, so the last is kept.
func (u *unpacker) resolve(dir string) (string, error) {
	if dir == u.lastDir {
		return u.lastDirResolved, nil
	}
	if info, _ := look(u.to, dir); info != nil && info.IsDir() {
		u.lastDir, u.lastDirResolved = dir, dir // no part of the name is a link, and no layer below can make it one
		return dir, nil
	}
	if err := u.needBelow(); err != nil {
		return "", err
	}
	// A link that this layer has deleted leads nowhere any more: what is behind its name is a new folder.
	known, added := dir, "."
	for at := dir; at != "."; at = path.Dir(at) {
		if info, _ := look(u.to, at); info == nil && (u.whiteouts[at] || u.opaque[path.Dir(at)]) {
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

// linkTarget makes sure that a hard link has something to link to: a file of a layer below is copied up first, as
// overlayfs does when one is linked.
func (u *unpacker) linkTarget(header *tar.Header) error {
	target, err := untar.Clean(header.Linkname)
	if err != nil {
		return fmt.Errorf("%w: it is a hard link to %q", err, header.Linkname)
	}
	dir, err := u.resolve(path.Dir(target))
	if err != nil {
		return err
	}
	target = path.Join(dir, path.Base(target))
	header.Linkname = target
	if info, _ := look(u.to, target); info != nil {
		return nil
	}
	if err := u.needBelow(); err != nil {
		return err
	}
	if i, _ := u.below.Find(target); i < 0 {
		return fmt.Errorf("%w: it is a hard link to %q, which neither this layer nor one below has", untar.ErrArchive, header.Linkname)
	}
	return u.copyFromBelow(target)
}

// makeParent makes a folder that the archive left out: the one of the layers below, where they have it.
func (u *unpacker) makeParent(name string) error {
	if err := u.needBelow(); err != nil {
		return err
	}
	if i, info := u.below.Find(name); i >= 0 && info.IsDir() {
		return u.copyFromBelow(name)
	}
	return u.w.Write(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}, nil)
}

// copyFromBelow copies a file, or a folder without its contents, with all its attributes.
func (u *unpacker) copyFromBelow(name string) error {
	i, info := u.below.Find(name)
	from := filepath.Join(u.below[i], name)
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if link, err = os.Readlink(from); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	header.Name = name
	if header.PAXRecords, err = xattrs(from); err != nil {
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

// settle turns what was noted into what overlayfs understands, once the whole layer is known: whiteouts apply to the
// layers below only, wherever in the archive they stand.
func (u *unpacker) settle() error {
	// The merged root folder looks like the topmost layer's, also where that says nothing about it.
	if i, _ := u.below.Find("."); i >= 0 && !u.written["."] {
		if err := u.copyFromBelow("."); err != nil {
			return err
		}
	}
	for dir := range u.opaque {
		if dir == "." {
			// overlayfs does not look at the xattr of a layer's top folder: hide each of its names instead.
			for _, name := range u.below.Names(".") {
				u.whiteouts[name] = true
			}
			continue
		}
		if i, info := u.below.Find(dir); i < 0 || !info.IsDir() {
			continue // nothing to hide
		}
		info, _ := look(u.to, dir)
		if info == nil {
			if err := u.w.Parent(dir); err != nil {
				return err
			}
		} else if !info.IsDir() {
			continue // the folder itself is replaced
		}
		if err := u.setOpaque(dir); err != nil {
			return err
		}
	}
	// Sorted, a folder comes before what is in it: a whiteout in a folder that is deleted too would bring it back.
	for _, name := range slices.Sorted(maps.Keys(u.whiteouts)) {
		if i, _ := u.below.Find(name); i < 0 {
			continue // a whiteout of nothing shows as a ghost: readdir(3) lists it, lstat(2) does not find it
		}
		info, hidden := look(u.to, name)
		var err error
		switch {
		case info == nil && hidden: // a folder above it is deleted as well
		case info != nil && info.IsDir(): // deleted, and made anew by the same layer
			err = u.setOpaque(name)
		case info == nil || !u.written[name]: // not there, or copied from below only to be linked to
			err = u.whiteout(name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (u *unpacker) setOpaque(dir string) error {
	if err := unix.Lsetxattr(filepath.Join(u.to, dir), opaqueXattr, []byte("y"), 0); err != nil {
		err = fmt.Errorf("make %q opaque: %w", dir, err)
		if errors.Is(err, unix.ENOTSUP) {
			return advice.Add(err, "the file system of the images has no trusted.* xattrs: choose a folder on another with --root")
		}
		return err
	}
	return nil
}

// whiteout makes the device 0/0, which is nothing's number. No privilege is needed for this one: see mknod(2).
func (u *unpacker) whiteout(name string) error {
	return u.w.Write(&tar.Header{Typeflag: tar.TypeChar, Name: name}, nil)
}

// count compares the layer with what is below it.
func (u *unpacker) count() {
	for name := range u.written {
		if info, _ := look(u.to, name); info == nil {
			continue // a later entry of the same layer replaced the folder that it was in
		}
		if i, _ := u.below.Find(name); i < 0 {
			u.layer.Added++
		} else {
			u.layer.Updated++
		}
	}
	for name := range u.whiteouts {
		if i, _ := u.below.Find(name); i >= 0 && !u.written[name] {
			u.layer.Deleted++
		}
	}
	for dir := range u.opaque {
		if dir == "." {
			continue // its names are among the whiteouts
		}
		for _, name := range u.below.Names(dir) {
			if name := path.Join(dir, name); !u.written[name] && !u.whiteouts[name] {
				u.layer.Deleted++
			}
		}
	}
}
