//go:build linux

package merged

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// A container may nest folders as deep as it likes, but a system call takes a name of at most PATH_MAX bytes, 4096. So a file
// that lies deeper is reached from a folder that is open.

// At returns what a file of a folder is called for system calls, also where its name there is too long for them. It is called
// so until done is called. No part of a long name may be a link.
func At(folder, name string) (file string, done func()) {
	file = folder + "/" + name
	if len(file) < unix.PathMax {
		return file, func() {}
	}
	dir, err := open(folder, path.Dir(name))
	if err != nil {
		return file, func() {} // the next system call says that the name is too long
	}
	return In(dir, path.Base(name)), func() { dir.Close() }
}

// In is a name for what is in an open folder, however deep that is. See proc_pid_fd(5).
func In(dir *os.File, entry string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), entry)
}

// deepName is a name of so many bytes that Lstat does not look at each folder on the way, as long as all are there.
const deepName = 256

// lstatDeep looks at a file without a look at each folder on the way to it. It returns nil if it is not there, or a whiteout, or
// behind a link.
func lstatDeep(layer, name string) fs.FileInfo {
	dir, err := open(layer, path.Dir(name))
	if err != nil {
		return nil
	}
	defer dir.Close()
	info, err := os.Lstat(In(dir, path.Base(name)))
	if err != nil || IsWhiteout(info) {
		return nil
	}
	return info
}

// open opens a folder in a folder, as a place only: O_PATH in open(2). It follows no link.
func open(folder, name string) (*os.File, error) {
	at, err := unix.Open(folder, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for err == nil && name != "" {
		piece := name
		if len(name) >= unix.PathMax {
			piece = name[:max(strings.LastIndexByte(name[:unix.PathMax], '/'), 0)] // no folder is called "", so this ends with ENOENT
		}
		name = strings.TrimPrefix(name[len(piece):], "/")
		above := at
		at, err = unix.Openat2(above, piece, &unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
		unix.Close(above)
	}
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(at), folder), nil
}

// Moved tells whether an error says that a name is not what it was a moment ago.
func Moved(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP)
}

// Walk calls visit for all that is in a folder, by the names, a folder before what is in it; not for the folder itself. It
// leads through no link, and as deep as it goes. Files that are removed meanwhile are left out. An entry is in the open folder
// dir, see In, until visit returns.
func Walk(folder string, visit func(name string, dir *os.File, entry fs.DirEntry) error) error {
	dir, err := os.Open(folder)
	if Moved(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return walker{folder, visit}.walk(dir, ".", 1)
}

// mostOpen is how many folders in each other Walk has open at once. A process may open few files, and a container nests thousands of
// folders.
const mostOpen = 64

type walker struct {
	folder string
	visit  func(name string, dir *os.File, entry fs.DirEntry) error
}

// walk closes dir. depth says how many folders are open, as long as all of them are.
func (w walker) walk(dir *os.File, name string, depth int) error {
	defer func() { dir.Close() }()
	entries, err := dir.ReadDir(-1)
	if err != nil && !Moved(err) {
		return err
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) })
	for _, entry := range entries {
		if dir == nil { // it was closed to go deeper
			if dir, err = open(w.folder, name); Moved(err) {
				return nil
			} else if err != nil {
				return err
			}
		}
		at := path.Join(name, entry.Name())
		if err := w.visit(at, dir, entry); err != nil {
			return err
		}
		if !entry.IsDir() {
			continue
		}
		below, err := os.OpenFile(In(dir, entry.Name()), os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if Moved(err) {
			continue
		}
		if err != nil {
			return err
		}
		if depth >= mostOpen {
			dir.Close()
			dir = nil
		}
		if err := w.walk(below, at, depth+1); err != nil {
			return err
		}
	}
	return nil
}
