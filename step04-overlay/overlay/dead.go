//go:build linux

package overlay

import (
	"errors"
	"os"
	"path/filepath"
	"slices"

	"gocker/step01-pull/shared/dirs"
)

// Open opens a container that nobody has open, else it fails with dirs.ErrLocked. The caller ends with Remove or Close.
func Open(d dirs.Dirs, id string) (*FS, error) {
	f := At(d, id)
	var err error
	f.lock, err = dirs.TryLock(f.Dir)
	return f, err
}

// EachDead opens the containers whose gocker died, one after the other, and hands each to do, which ends it with Remove or
// Close: a lock is a descriptor, of which a process has few. A container that cannot be read stays as it is, and is an error.
// A folder with anything in it but what this package and known name belongs to a later step, which knows how to end
// it, and is left alone. A known name may be a pattern: "log*".
func EachDead(d dirs.Dirs, do func(*FS) error, known ...string) error {
	folders, err := dirs.Glob(d.Containers(), "*")
	for _, folder := range folders {
		f, openErr := openDead(d, filepath.Base(folder), known)
		if f != nil {
			openErr = do(f)
		}
		err = errors.Join(err, openErr)
	}
	return err
}

// openDead returns nil for a container that is alive, or a later step's.
func openDead(d dirs.Dirs, id string, known []string) (*FS, error) {
	f, err := Open(d, id)
	if errors.Is(err, dirs.ErrLocked) || errors.Is(err, os.ErrNotExist) {
		return nil, nil // alive, or gone meanwhile
	}
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(f.Dir)
	if err != nil || slices.ContainsFunc(entries, func(e os.DirEntry) bool { return !isKnown(e.Name(), known) }) {
		f.Close()
		return nil, err
	}
	return f, nil
}

func isKnown(name string, known []string) bool {
	return slices.ContainsFunc(append([]string{"fs", "image", "lower"}, known...), func(pattern string) bool {
		match, err := filepath.Match(pattern, name)
		return match && err == nil
	})
}

// RemoveDead removes what dead containers have left.
func RemoveDead(d dirs.Dirs) error { return EachDead(d, (*FS).Remove) }
