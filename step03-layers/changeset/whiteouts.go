//go:build linux

package changeset

import (
	"archive/tar"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

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

// noteWhiteout notes what an entry deletes whose name in the folder dir begins with ".wh.". See markOpaque and writeWhiteouts.
func (u *unpacker) noteWhiteout(dir, base string) error {
	hidden := strings.TrimPrefix(base, WhiteoutPrefix)
	switch {
	case base == WhiteoutOpaque:
		u.opaque[dir] = true
	case strings.HasPrefix(base, WhiteoutMeta):
		return nil
	case hidden == "" || hidden == "." || hidden == "..":
		return fmt.Errorf("%w: a whiteout of %q", untar.ErrArchive, hidden)
	default:
		u.whiteouts[path.Join(dir, hidden)] = true
	}
	u.lastDir = "" // a link that is deleted leads nowhere any more
	return u.names.Keep(dir)
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

// markOpaque marks the folders that hide what is below. Like whiteouts they apply to the layers below only, wherever in
// the archive they stand, so this waits until the whole layer is known.
func (u *unpacker) markOpaque() error {
	for _, dir := range slices.Sorted(maps.Keys(u.opaque)) {
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
	return nil
}

// writeWhiteouts hides the names that the layer deletes.
func (u *unpacker) writeWhiteouts() error {
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
	return nil
}

// setOpaque writes the xattr by which overlayfs knows that a folder hides what is below.
func (u *unpacker) setOpaque(dir string) error {
	folder, done := merged.At(u.to, dir)
	defer done()
	if err := unix.Lsetxattr(folder, merged.OpaqueXattr(), []byte("y"), 0); err != nil {
		err = fmt.Errorf("make %q opaque: %w", dir, err)
		if errors.Is(err, unix.EPERM) {
			return advice.Add(err, "only root with CAP_SYS_ADMIN may write trusted.overlay.opaque; in a container: docker run --privileged")
		}
		if errors.Is(err, unix.ENOTSUP) {
			return advice.Add(err, "the file system of the images has no such xattrs: choose a folder on another with --root")
		}
		return err
	}
	return nil
}

// whiteout makes the device 0/0, which is nothing's number. No privilege is needed for this one: see mknod(2).
func (u *unpacker) whiteout(name string) error {
	return u.w.Write(&tar.Header{Typeflag: tar.TypeChar, Name: name}, nil)
}
