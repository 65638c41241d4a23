//go:build linux

package merged

import (
	"archive/tar"
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Header is what an archive would say of a file, with all its xattrs but those that overlayfs keeps for itself.
func Header(path string) (*tar.Header, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(path); err != nil {
			return nil, err
		}
	}
	header, err := tar.FileInfoHeader(nameless{info}, link)
	if err != nil {
		return nil, err
	}
	header.PAXRecords, err = records(path)
	return header, err
}

// nameless is a file whose owner has no name. The archive's reader has other users than this machine, and to look up a name takes
// longer than all the rest.
type nameless struct{ fs.FileInfo }

func (nameless) Uname() (string, error) { return "", nil }
func (nameless) Gname() (string, error) { return "", nil }

// IsOverlays tells whether overlayfs understands an xattr on its layers; "user." is for one that a user mounts. An
// archive has no business setting them: they hide files, or redirect folders, outside of what any scanner can see.
func IsOverlays(xattr string) bool {
	return strings.HasPrefix(xattr, "trusted.overlay.") || strings.HasPrefix(xattr, "user.overlay.")
}

// records are the extended attributes of a file, as PAX records, but for those that overlayfs keeps for itself.
func records(path string) (map[string]string, error) {
	all, err := Xattrs(path)
	kept := map[string]string{}
	for name, value := range all {
		if !IsOverlays(name) {
			kept["SCHILY.xattr."+name] = value
		}
	}
	return kept, err
}

// Xattrs reads the extended attributes of a file, by their names.
func Xattrs(path string) (map[string]string, error) {
	list, err := grown(func(buffer []byte) (int, error) { return unix.Llistxattr(path, buffer) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, &fs.PathError{Op: "listxattr", Path: path, Err: err}
	}
	all := map[string]string{}
	for name := range strings.SplitSeq(strings.TrimRight(list, "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value, err := grown(func(buffer []byte) (int, error) { return unix.Lgetxattr(path, name, buffer) })
		if err != nil {
			return nil, &fs.PathError{Op: "getxattr " + name, Path: path, Err: err}
		}
		all[name] = value
	}
	return all, nil
}

// grown reads into a buffer that grows until what is read fits. A list of names and a value have at most 64 KiB, see
// xattr(7); nearly all are short.
func grown(read func(buffer []byte) (int, error)) (string, error) {
	for size := 1 << 10; ; size *= 8 {
		buffer := make([]byte, size)
		n, err := read(buffer)
		if err != unix.ERANGE || size > 64<<10 {
			return string(buffer[:max(n, 0)]), err
		}
	}
}
