//go:build linux

// Package aside looks at a container's files on a thread in a mount namespace of its own, so that nothing the container
// does meanwhile leads that thread elsewhere, and nothing stays mounted.
package aside

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"gocker/step04-overlay/check"
	"gocker/step04-overlay/overlay"
)

// ErrNotMounted says that nothing is mounted at Mnt.
var ErrNotMounted = errors.New("the file system is not mounted")

// Mounted is FS.MountAside for one that somebody else has mounted, and may unmount meanwhile.
func Mounted(f *overlay.FS, use func() error) error {
	return check.InOwnMounts(func() error {
		var mnt, dir unix.Stat_t
		if err := errors.Join(unix.Stat(f.Mnt(), &mnt), unix.Stat(f.Dir, &dir)); err != nil {
			return fmt.Errorf("%w: %w", ErrNotMounted, err)
		}
		if mnt.Dev == dir.Dev {
			return fmt.Errorf("%w: %s", ErrNotMounted, f.Mnt())
		}
		return use()
	})
}

// Look calls look on a thread where nothing below upperdir leads away: no link is followed there, and no device
// opened. A container that runs may put a link in the place of a folder between two looks at its name, and what it leads to
// would be the host's.
func Look(f *overlay.FS, look func() error) error {
	return check.InOwnMounts(func() error {
		dir := f.Upperdir()
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %q to itself: %w", dir, err)
		}
		const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOSYMFOLLOW
		if err := unix.Mount("", dir, "", unix.MS_BIND|unix.MS_REMOUNT|flags, ""); err != nil {
			return fmt.Errorf("follow no link below %q: %w", dir, err)
		}
		return look()
	})
}
