//go:build linux

// Package changeset makes a folder for overlayfs of one layer's tar archive.
//
//	c, err := changeset.Unpack(stream, "layers/{chainID}/fs", below, budget)
//
// A layer is a changeset: what it adds and updates is in it as files, what it deletes as whiteouts. Tar archives
// spell a whiteout as an empty file ".wh.name", overlayfs as a character device 0/0 named "name"; a folder whose
// lower contents are all hidden is ".wh..wh..opq" in the one and the xattr trusted.overlay.opaque in the other.
//
// Whether a whiteout hides anything, and what mode a folder has that the archive left out, depends on the layers
// below. So they are asked for, but only when that is needed: see Unpack.
//
// See https://github.com/opencontainers/image-spec/blob/main/layer.md.
package changeset

import (
	"archive/tar"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step02-untar/untar"
	"gocker/step03-layers/merged"
)

// How a layer's tar archive spells what it deletes: see layer.md, "Whiteouts".
const (
	WhiteoutPrefix = ".wh."
	WhiteoutMeta   = ".wh..wh." // aufs kept files of its own under such names
	WhiteoutOpaque = ".wh..wh..opq"
)

// A Changeset is what the bytes of a layer say of it. Digests are "sha256:" and 64 hex digits.
type Changeset struct {
	Digest string // of the layer as it was sent, compressed
	DiffID string // of the tar archive inside
	Size   int64  // bytes, as it was sent
	Files  int64  // bytes of all its files, unpacked

	// Entries, compared with the layers below.
	Added, Updated, Deleted int
}

// Unpack unpacks a layer as it was sent into a new folder, and returns all that its bytes say. Where the archive in it is
// damaged, which is an untar.ErrArchive, that is the digest. below returns the folders of the layers below, the lowest
// first; it is called when one of them must be looked at, and may wait until all are there.
func Unpack(stream io.Reader, to string, below func() (merged.Stack, error), limit *untar.Budget) (c Changeset, err error) {
	if err := os.Mkdir(to, 0o755); err != nil {
		return Changeset{}, err
	}
	sent := &counter{r: stream, hash: sha256.New()}
	u := unpacker{to: to, wait: below, counted: &c, limit: limit}
	diffID, err := u.unpack(sent)
	if err != nil && !errors.Is(err, untar.ErrArchive) {
		return Changeset{}, err
	}
	if _, err := io.Copy(io.Discard, sent); err != nil {
		return Changeset{}, err
	}
	c.Digest, c.DiffID, c.Size = "sha256:"+hex.EncodeToString(sent.hash.Sum(nil)), diffID, sent.n
	return c, err
}

// counter knows how much was read, and its digest.
type counter struct {
	r    io.Reader
	hash hash.Hash
	n    int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.hash.Write(p[:n])
	c.n += int64(n)
	return n, err
}

// An unpacker turns one layer's tar archive into a folder for overlayfs. Layers are unpacked side by side: most entries
// say all there is to know about a file, and in which folder of this same layer it lies. Where one does not, and at the
// end, wait is called: it returns the layers below once they are settled.
type unpacker struct {
	to      string // the folder
	wait    func() (merged.Stack, error)
	counted *Changeset // where entries are counted
	limit   *untar.Budget

	w         *untar.Writer
	below     merged.Stack      // nil until it was waited for
	whiteouts map[string]bool   // names that the layer deletes
	opaque    map[string]bool   // folders in which it deletes all
	top       bool              // it says what its top folder looks like
	leftOut   map[string]bool   // folders that it needs and does not have
	links     map[fileID]linked // files of layers below that it links to

	lastDir, lastDirResolved string
}

// unpack reads the archive to its end and returns its diffID.
func (u *unpacker) unpack(archive io.Reader) (diffID string, err error) {
	plain := untar.Decompress(u.limit.In(archive))
	defer plain.Close()
	hash := sha256.New()
	tee := io.TeeReader(u.limit.Out(plain), hash)

	u.w, err = untar.NewWriter(u.to)
	if err != nil {
		return "", err
	}
	defer u.w.Close()
	u.w.MakeParent = u.makeParent
	u.whiteouts, u.opaque, u.leftOut = map[string]bool{}, map[string]bool{}, map[string]bool{}
	u.links = map[fileID]linked{}
	if err := untar.Each(tee, u.entry); err != nil {
		return "", err
	}
	// An archive ends before its bytes do: zeros follow, and they are part of the diffID.
	if _, err := io.Copy(io.Discard, tee); errors.Is(err, untar.ErrLimit) {
		return "", err
	} else if err != nil {
		return "", fmt.Errorf("%w: %w", untar.ErrArchive, err)
	}
	if err := u.needBelow(); err != nil {
		return "", err
	}
	if err := u.count(); err != nil {
		return "", err
	}
	if err := u.settle(); err != nil {
		return "", err
	}
	if err := u.w.Finish(); err != nil {
		return "", err
	}
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
	if err := u.limit.Entry(header); err != nil {
		return err
	}
	name, err := untar.Clean(header.Name)
	if err != nil {
		return err
	}
	dir, err := u.resolve(path.Dir(name))
	if err != nil {
		return err
	}
	for at := dir; at != "."; at = path.Dir(at) {
		switch in := path.Base(at); {
		case strings.HasPrefix(in, WhiteoutMeta):
			return nil
		case strings.HasPrefix(in, WhiteoutPrefix):
			return fmt.Errorf("%w: it lies in the whiteout %q", untar.ErrArchive, in)
		}
	}
	base := path.Base(name)
	name = path.Join(dir, base)
	switch {
	case base == WhiteoutOpaque:
		u.opaque[dir] = true
		u.lastDir = ""
		return nil
	case strings.HasPrefix(base, WhiteoutMeta):
		return nil
	case strings.HasPrefix(base, WhiteoutPrefix):
		hidden := strings.TrimPrefix(base, WhiteoutPrefix)
		if hidden == "" || hidden == "." || hidden == ".." {
			return fmt.Errorf("%w: a whiteout of %q", untar.ErrArchive, hidden)
		}
		u.whiteouts[path.Join(dir, hidden)] = true
		u.lastDir = ""
		return nil
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
		if info, err := os.Lstat(filepath.Join(u.to, name)); err == nil && !info.IsDir() {
			u.whiteouts[name] = true // the first of the two entries has replaced what lies below
		}
	}
	header.Name = name
	u.top = u.top || name == "."
	delete(u.leftOut, name)
	u.counted.Files += header.Size
	return u.w.Write(header, content)
}

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
	if err := u.needBelow(); err != nil {
		return "", err
	}
	// A link that this layer has deleted leads nowhere any more: what is behind its name is a new folder.
	known, added := dir, "."
	for at := dir; at != "."; at = path.Dir(at) {
		if info, _ := merged.Lstat(u.to, at); info == nil && (u.whiteouts[at] || u.opaque[path.Dir(at)]) {
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

// linkTarget makes sure that a hard link has something to link to. Layers below are shared and cannot get one name more:
// a file of theirs is copied to a name that no entry can have, and at the end shareLinks takes care of its other names.
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
	if info, _ := merged.Lstat(u.to, target); info != nil {
		return nil
	}
	if err := u.needBelow(); err != nil {
		return err
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
	for name, id := range names {
		i, _ := u.below.Find(name)
		own, replaced := merged.Lstat(u.to, name)
		if i != id.layer || own != nil || replaced || u.hides(name) {
			continue
		}
		if err := u.w.Write(&tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: u.links[id].copy}, nil); err != nil {
			return err
		}
	}
	for _, l := range u.links {
		if err := u.w.Root.Remove(l.copy); err != nil {
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
	for i := range walk {
		err := filepath.WalkDir(u.below[i], func(at string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			id := fileID{i, info.Sys().(*syscall.Stat_t).Ino}
			if _, ok := u.links[id]; ok {
				names[strings.TrimPrefix(at, u.below[i]+"/")] = id
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return names, nil
}

// hides tells whether the layer deletes what those below have under a name.
func (u *unpacker) hides(name string) bool {
	for at := name; at != "."; at = path.Dir(at) {
		if u.whiteouts[at] || u.opaque[path.Dir(at)] {
			return true
		}
	}
	return false
}

// makeParent makes a folder that the archive left out. What it looks like, settle finds out.
func (u *unpacker) makeParent(name string) error {
	if err := u.limit.Entry(&tar.Header{}); err != nil {
		return err
	}
	u.leftOut[name] = true
	return u.w.Write(&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}, nil)
}

// copyFromBelow copies a file, or a folder without its contents, with all its attributes.
func (u *unpacker) copyFromBelow(name, to string) error {
	i, info := u.below.Find(name)
	from := filepath.Join(u.below[i], name)
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

// settle turns what was noted into what overlayfs understands, once the whole layer is known: whiteouts apply to the
// layers below only, wherever in the archive they stand.
func (u *unpacker) settle() error {
	// The merged root folder looks like the topmost layer's, also where that says nothing about it.
	if i, _ := u.below.Find("."); i >= 0 && !u.top {
		if err := u.copyFromBelow(".", "."); err != nil {
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
		info, hidden := merged.Lstat(u.to, dir)
		if info == nil && (hidden || u.hides(dir)) {
			continue // the folder itself is deleted or replaced
		}
		if info == nil {
			if err := u.w.Parent(dir); err != nil {
				return err
			}
		} else if !info.IsDir() {
			continue
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
		info, hidden := merged.Lstat(u.to, name)
		var err error
		switch {
		case info == nil && hidden: // a folder above it is deleted as well
		case info != nil && info.IsDir(): // deleted, and made anew by the same layer
			err = u.setOpaque(name)
		case info == nil:
			err = u.whiteout(name)
		}
		if err != nil {
			return err
		}
	}
	if err := u.shareLinks(); err != nil {
		return err
	}
	// Folders that the archive left out are those below, but where it deletes them: then they are new.
	for name := range u.leftOut {
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

func (u *unpacker) setOpaque(dir string) error {
	if err := unix.Lsetxattr(filepath.Join(u.to, dir), merged.OpaqueXattr, []byte("y"), 0); err != nil {
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

// isEntry tells whether the archive has an entry for a name that the folder has before settle.
func (u *unpacker) isEntry(name string) bool {
	return (name != "." || u.top) && !u.leftOut[name] && !strings.HasPrefix(path.Base(name), WhiteoutMeta)
}

// has tells whether the archive has an entry for a name.
func (u *unpacker) has(name string) bool {
	_, err := os.Lstat(filepath.Join(u.to, name))
	return err == nil && u.isEntry(name)
}

// count compares the layer with what is below it, before settle adds what overlayfs wants. The names are read from the
// folder: to keep those of a million files in memory would take much of it.
func (u *unpacker) count() error {
	below := map[string]bool{} // is the folder there? Of most files not even that is: so most need no look
	err := filepath.WalkDir(u.to, func(at string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := cmp.Or(strings.TrimPrefix(strings.TrimPrefix(at, u.to), "/"), ".")
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
	})
	if err != nil {
		return err
	}
	for name := range u.whiteouts {
		if i, _ := u.below.Find(name); i >= 0 && !u.has(name) {
			u.counted.Deleted++
		}
	}
	for dir := range u.opaque {
		for _, name := range u.below.Names(dir) {
			if name := path.Join(dir, name); !u.has(name) && !u.whiteouts[name] {
				u.counted.Deleted++
			}
		}
	}
	return nil
}
