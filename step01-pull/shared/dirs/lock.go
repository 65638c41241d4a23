package dirs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrLocked says that another process holds the lock.
var ErrLocked = errors.New("in use by another process")

// Lock makes the folder if need be, waits until no other process holds it, and holds it until the returned file is
// closed. The kernel drops the lock when its holder dies, however it dies, so a lock is never stale. See flock(2).
func Lock(folder string) (*os.File, error) {
	for {
		// 0700: a layer may have a setuid program, which other users of the machine must not find (CVE-2021-41091).
		// ErrExist: it was there for mkdir(2), and gone when MkdirAll looked whether it is a folder. Or it is a link to
		// nothing, which will be as it is next time.
		if err := os.MkdirAll(folder, 0o700); err != nil && (!errors.Is(err, os.ErrExist) || isLink(err)) {
			return nil, err
		}
		// ErrNotExist: the holder that we waited for removed the folder. Begin again with a new one.
		f, err := flock(folder, unix.LOCK_EX)
		if !errors.Is(err, os.ErrNotExist) {
			return f, err
		}
	}
}

// isLink tells whether what an error is about is a symbolic link.
func isLink(err error) bool {
	var about *os.PathError
	if !errors.As(err, &about) {
		return false
	}
	info, err := os.Lstat(about.Path)
	return err == nil && info.Mode()&os.ModeSymlink != 0
}

// LockShared is Lock for readers: any number of them may hold a folder, but none while another process has a Lock.
// It makes no folder.
func LockShared(folder string) (*os.File, error) { return flock(folder, unix.LOCK_SH) }

// LockExisting is Lock for a folder that is there: it makes none.
func LockExisting(folder string) (*os.File, error) { return flock(folder, unix.LOCK_EX) }

// TryLock is Lock for an existing folder and does not wait: ErrLocked says that somebody holds it.
func TryLock(folder string) (*os.File, error) { return flock(folder, unix.LOCK_EX|unix.LOCK_NB) }

func flock(folder string, how int) (*os.File, error) {
	f, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if err != unix.EINTR {
			break
		}
	}
	if err == unix.EWOULDBLOCK {
		err = ErrLocked
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %q: %w", folder, err)
	}
	// While we waited the folder may have been removed, and another one made: a lock on the old one holds nothing.
	locked, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	if now, err := os.Stat(folder); err != nil || !os.SameFile(locked, now) {
		f.Close()
		return nil, fmt.Errorf("lock %q: %w", folder, os.ErrNotExist)
	}
	return f, nil
}

// partial begins the names of folders that are not finished.
const partial = ".partial-"

// A Partial is a folder that nobody looks at before it is finished: Finish renames it to its real name, Discard
// removes it. While it is filled it is locked; one without a lock was left by a process that died, and the next
// NewPartial in the same parent removes it.
type Partial struct {
	Path string
	lock *os.File
}

// NewPartial makes an empty folder in parent, on the same file system as its real name so that Finish is one rename.
func NewPartial(parent string) (*Partial, error) {
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return nil, err
	}
	if err := RemoveStale(parent); err != nil {
		return nil, err
	}
	for {
		p, err := os.MkdirTemp(parent, partial)
		if err != nil {
			return nil, err
		}
		// Between MkdirTemp and TryLock somebody may have taken it for a dead one: then it is gone, and we make another.
		lock, err := TryLock(p)
		if err == nil {
			return &Partial{Path: p, lock: lock}, nil
		}
		if !errors.Is(err, ErrLocked) && !errors.Is(err, os.ErrNotExist) {
			os.Remove(p)
			return nil, err
		}
	}
}

// Stale lists the partials in parent that processes which died have left.
func Stale(parent string) (paths []string, err error) {
	all, err := Glob(parent, partial+"*")
	for _, p := range all {
		if lock, err := TryLock(p); err == nil {
			lock.Close()
			paths = append(paths, p)
		}
	}
	return paths, err
}

// RemoveStale removes the partials in parent that processes which died have left.
func RemoveStale(parent string) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), partial) {
			continue
		}
		p := filepath.Join(parent, e.Name())
		lock, err := TryLock(p)
		if err != nil {
			continue // alive, gone meanwhile, or not to be opened: it stays
		}
		err = removeTree(p)
		lock.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// Finish gives the folder its real name. An empty folder of that name is replaced, another one makes it fail.
func (p *Partial) Finish(name string) error {
	if err := os.Rename(p.Path, name); err != nil {
		return err
	}
	return p.lock.Close()
}

// Discard removes the folder and all in it. After Finish it does nothing.
func (p *Partial) Discard() {
	if p.lock.Close() == nil {
		removeTree(p.Path)
	}
}
