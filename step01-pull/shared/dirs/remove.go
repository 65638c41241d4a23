package dirs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// RemoveAll removes a folder at once for everybody who looks at its name: first the name goes, then the rest. What a
// crash leaves is a Partial that nobody holds.
func RemoveAll(folder string) error {
	gone, err := NewPartial(filepath.Dir(folder))
	if err != nil {
		return err
	}
	defer gone.Discard()
	if err := os.Rename(folder, filepath.Join(gone.Path, "gone")); err != nil {
		return err
	}
	return removeTree(gone.Path)
}

// RemoveLocked is RemoveAll for a folder that the caller has locked: it becomes a partial itself.
func RemoveLocked(folder string) error {
	parent, name := filepath.Split(folder)
	if err := RemoveStale(parent); err != nil {
		return err
	}
	gone := filepath.Join(parent, partial+name)
	if err := os.Rename(folder, gone); err != nil {
		return err
	}
	return removeTree(gone)
}

// mostOpen is how many folders in each other are open while they are removed. What lies deeper moves up first: so a folder
// can be removed however deep an image or a container nests others in it, and however few files this process may open.
const mostOpen = 16

// removeTree removes a folder and all in it. It goes on after an error. If there is no such folder, that is no error.
func removeTree(folder string) error {
	top, err := os.OpenFile(folder, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer top.Close()
	r := remover{top: top}
	for moved := -1; err == nil && moved < r.moved; {
		moved = r.moved
		if _, err = top.Seek(0, io.SeekStart); err == nil {
			err = r.empty(top, 1)
		}
	}
	if err == nil {
		err = os.Remove(folder)
	}
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return err
}

type remover struct {
	top   *os.File
	moved int // folders, to there
}

func (r *remover) empty(dir *os.File, depth int) error {
	entries, err := dir.ReadDir(-1)
	if errors.Is(err, os.ErrNotExist) { // somebody else removes it too
		err = nil
	}
	for _, entry := range entries {
		removeErr := r.remove(dir, entry, depth)
		if removeErr != nil && !errors.Is(removeErr, os.ErrNotExist) {
			err = errors.Join(err, &os.PathError{Op: "remove", Path: filepath.Join(dir.Name(), entry.Name()), Err: removeErr})
		}
	}
	return err
}

func (r *remover) remove(dir *os.File, entry fs.DirEntry, depth int) error {
	at, name := int(dir.Fd()), entry.Name()
	if !entry.IsDir() {
		return unix.Unlinkat(at, name, 0)
	}
	err := unix.Unlinkat(at, name, unix.AT_REMOVEDIR)
	if err != unix.ENOTEMPTY && err != unix.EEXIST {
		return err
	}
	if depth == mostOpen {
		return r.moveUp(at, name)
	}
	fd, err := unix.Openat(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	below := os.NewFile(uintptr(fd), filepath.Join(dir.Name(), name))
	err = r.empty(below, depth+1)
	below.Close()
	if err != nil {
		return err
	}
	return unix.Unlinkat(at, name, unix.AT_REMOVEDIR)
}

// moveUp moves a folder to the top, where the next round finds it.
func (r *remover) moveUp(at int, name string) error {
	for {
		r.moved++
		err := unix.Renameat(at, name, int(r.top.Fd()), fmt.Sprintf(".moved-%d", r.moved))
		if err != unix.EEXIST && err != unix.ENOTEMPTY && err != unix.ENOTDIR { // else there is one of this name
			return err
		}
	}
}
