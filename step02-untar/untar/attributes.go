package untar

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
)

// What makes a file of a layer the file that its author had: owner, mode, xattrs, times, and for devices their numbers. To
// unpack a package all of this could be left out.

// attributes are what an entry says of a file beside its content.
type attributes struct {
	mode        fs.FileMode
	uid, gid    int
	records     map[string]string // of PAX, with the xattrs
	access, mod time.Time         // zero: not known
}

// isOwner tells whether a number can be a user's or a group's. chown(2) takes 32 bits of it, so 1<<32 would be root, and it
// takes -1 for "as it is", which is root's, too: both with the setuid bit of the entry.
func isOwner(id int) bool { return id >= 0 && id < math.MaxUint32 }

// setAttributes keeps an order that matters: chown(2) clears setuid bits and file capabilities, so the owner comes
// first, then mode and xattrs, and last the times.
func (w *Writer) setAttributes(name string, a attributes) error {
	dir, err := w.in(path.Dir(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	if w.chown {
		if err := dir.root.Lchown(base, a.uid, a.gid); errors.Is(err, unix.EINVAL) {
			err = fmt.Errorf("%q is a file of user %d and group %d, and this user namespace does not have both", name, a.uid, a.gid)
			return advice.Add(err, "as root, give the user a range of ids: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER, and install newuidmap (Debian package uidmap)")
		} else if err != nil {
			return err
		}
	}
	if a.mode&fs.ModeSymlink == 0 {
		if err := dir.root.Chmod(base, a.mode); err != nil {
			return err
		}
	}
	if err := dir.setXattrs(base, a.records, func(xattr string) { w.leaveOut("xattr %s of %q", xattr, name) }); err != nil {
		return err
	}
	if a.mod.IsZero() { // not from an archive, but made by a caller that does not care
		return nil
	}
	return dir.setTimes(base, a.access, a.mod)
}

func (w *Writer) leaveOut(what string, args ...any) {
	if w.leftOut++; w.leftOut == 1 {
		w.firstLeftOut = fmt.Sprintf(what, args...)
	}
}

// setTimes is utimensat(2), to the nanosecond, on the name itself: a link's times are its own.
func (f folder) setTimes(base string, access, mod time.Time) error {
	if access.IsZero() { // most archives do not have it
		access = mod
	}
	err := unix.UtimesNanoAt(int(f.file.Fd()), base, []unix.Timespec{timespec(access), timespec(mod)}, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return fmt.Errorf("set the times of %q: %w", base, err)
	}
	return nil
}

func timespec(t time.Time) unix.Timespec {
	// Not unix.TimeToTimespec: that one counts nanoseconds, and 64 bits of them end in 2262.
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}
