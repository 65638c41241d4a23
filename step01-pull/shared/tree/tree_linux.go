// Package tree reads all that a program can find out about the files of a tree, to compare two trees.
package tree

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A Fact is one thing that can be known of one file: its "mode", "owner", …
type Fact struct{ Name, What string }

// These are the facts that one can know of a file.
const (
	Type    = "type"         // "-" a file, "d" a folder, "l" a symbolic link, "c", "b" devices, "p" a fifo
	Mode    = "mode"         // twelve bits, octal
	Owner   = "owner"        // user:group
	MTime   = "mtime"        // seconds.nanoseconds
	Content = "content"      // of a file, in short; where a link leads; a device's numbers
	Xattrs  = "xattrs"       // all of them
	Same    = "same file as" // all its names in the tree, where there are more than one
	Links   = "links"        // how many names it has, says the file system; not for folders, where it means nothing
	Ghost   = "listed only"  // readdir(3) has the name and lstat(2) does not
)

// Facts is all that a program can find out about all files of a tree, and of its top folder ".": what testenv.Tree
// shows, and owners, times, xattrs, and which names are one file. Access and change times are not in it.
type Facts map[Fact]string

// ReadFacts looks at everything below a folder, and at the folder.
func ReadFacts(root string) (Facts, error) {
	facts, files := Facts{}, map[[2]uint64][]string{}
	if err := facts.read(root, ".", files); err != nil {
		return nil, err
	}
	for _, names := range files {
		facts.AddNames(names)
	}
	return facts, nil
}

// AddNames notes that names are one file.
func (f Facts) AddNames(names []string) {
	slices.Sort(names)
	for _, name := range names {
		f[Fact{name, Same}] = ""
		if len(names) > 1 {
			f[Fact{name, Same}] = fmt.Sprintf("%q", names)
		}
	}
}

func (f Facts) read(root, name string, files map[[2]uint64][]string) error {
	at := filepath.Join(root, name)
	var s unix.Stat_t
	if err := unix.Lstat(at, &s); errors.Is(err, unix.ENOENT) {
		f[Fact{name, Ghost}] = ""
		return nil
	} else if err != nil {
		return &os.PathError{Op: "lstat", Path: at, Err: err}
	}
	letter := map[uint32]string{unix.S_IFREG: "-", unix.S_IFDIR: "d", unix.S_IFLNK: "l", unix.S_IFCHR: "c", unix.S_IFBLK: "b", unix.S_IFIFO: "p"}[s.Mode&unix.S_IFMT]
	f[Fact{name, Type}] = letter
	f[Fact{name, Mode}] = fmt.Sprintf("%04o", s.Mode&0o7777)
	f[Fact{name, Owner}] = fmt.Sprintf("%d:%d", s.Uid, s.Gid)
	f[Fact{name, MTime}] = fmt.Sprintf("%d.%09d", s.Mtim.Sec, s.Mtim.Nsec)
	attrs, err := readXattrs(at)
	if err != nil {
		return err
	}
	f[Fact{name, Xattrs}] = attrs
	if letter != "d" {
		file := [2]uint64{s.Dev, s.Ino}
		files[file] = append(files[file], name)
		f[Fact{name, Links}] = fmt.Sprint(s.Nlink)
	}
	switch letter {
	case "-":
		content, err := os.ReadFile(at)
		if err != nil {
			return err
		}
		f[Fact{name, Content}] = ShortContent(content)
	case "l":
		f[Fact{name, Content}], err = os.Readlink(at)
	case "c", "b":
		f[Fact{name, Content}] = fmt.Sprintf("%d,%d", unix.Major(s.Rdev), unix.Minor(s.Rdev))
	case "d":
		entries, err := os.ReadDir(at)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := f.read(root, filepath.Join(name, e.Name()), files); err != nil {
				return err
			}
		}
	}
	return err
}

// ShortContent stands for a file's content.
func ShortContent(content []byte) string {
	if len(content) > 60 {
		return fmt.Sprintf("%d bytes, sha256 %x", len(content), sha256.Sum256(content))
	}
	return fmt.Sprintf("%q", content)
}

func readXattrs(at string) (string, error) {
	list := make([]byte, 64<<10) // XATTR_LIST_MAX: see xattr(7)
	n, err := unix.Llistxattr(at, list)
	if errors.Is(err, unix.ENOTSUP) {
		return "", nil
	}
	if err != nil {
		return "", &os.PathError{Op: "listxattr", Path: at, Err: err}
	}
	attrs := map[string]string{}
	for name := range bytes.SplitSeq(bytes.TrimRight(list[:n], "\x00"), []byte{0}) {
		if len(name) == 0 {
			continue
		}
		value := make([]byte, 64<<10) // XATTR_SIZE_MAX
		n, err := unix.Lgetxattr(at, string(name), value)
		if err != nil {
			return "", &os.PathError{Op: "getxattr " + string(name), Path: at, Err: err}
		}
		attrs[string(name)] = string(value[:n])
	}
	return ShortXattrs(attrs), nil
}

// ShortXattrs stands for a file's extended attributes.
func ShortXattrs(attrs map[string]string) string {
	var all []string
	for name, value := range attrs {
		all = append(all, fmt.Sprintf("%s=%q", name, value))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}
