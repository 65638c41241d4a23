//go:build linux

package overlay

import (
	"os"

	"gocker/step01-pull/shared/dirs"
	"gocker/step04-overlay/check"
)

// The steps do not need this, but the runtime does.

// MountAside mounts for one thread alone, in a mount namespace of its own, and calls use there. Afterwards nothing is
// mounted, also if this process was killed. Of the working directory and of what use mounts only that thread knows.
func (f *FS) MountAside(use func() error) error {
	return check.InOwnMounts(func() error {
		mount := f.mountInLinks
		if f.optionsFit() {
			mount = func() error { return f.mount(f.options(f.Lower)) }
		}
		if err := mount(); err != nil {
			return err
		}
		return use()
	})
}

// Lock is what holds the container, for a process that goes on with it. There it is Adopt's.
func (f *FS) Lock() *os.File { return f.lock }

// Adopt is Open for a process that was given the lock.
func Adopt(d dirs.Dirs, id string, lock *os.File) *FS {
	return &FS{ID: id, Dir: d.Container(id), lock: lock}
}
