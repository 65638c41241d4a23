//go:build linux

package containers

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"gocker/final/internal/describe"
	"gocker/final/internal/logs"
	"gocker/final/internal/store"
	"gocker/step01-pull/shared/dirs"
	"gocker/step02-untar/budget"
	"gocker/step03-layers/changeset"
	"gocker/step03-layers/merged"
	"gocker/step04-overlay/overlay"
)

// A gocker before this one had a container's folder below the run folder, and below the root folder only its log and a link back.
// Such a container moves to the disk when it is started, or before the machine stops, as soon as it does not run.

// MoveElders moves all containers of older gockers that do not run. Those that cannot be moved stay where they are.
func (store Store) MoveElders() error {
	states, err := store.List()
	for _, s := range states {
		if s.Active() || !store.isElder(s.ID) {
			continue
		}
		c, takeErr := store.Take(s.ID)
		if errors.Is(takeErr, ErrRunning) || errors.Is(takeErr, ErrNoContainer) { // it was started or removed a moment ago
			continue
		}
		if takeErr == nil {
			takeErr = errors.Join(c.moveElder(), c.FS.Close())
		}
		err = errors.Join(err, takeErr)
	}
	return err
}

// isElder tells whether a container's folder is below the run folder: now there is a link.
func (store Store) isElder(id string) bool {
	info, err := os.Lstat(store.Dirs.Container(id))
	return err == nil && info.IsDir()
}

// moveElder moves a container to the disk, if an older gocker made it. Until the link is there, everybody sees the folder as it was.
func (c *Held) moveElder() error {
	if !c.isElder(c.ID()) {
		return nil
	}
	if err := c.copyElder(); err != nil {
		return fmt.Errorf("move container %s to %q: %w", c.State.Name, c.Dirs.Lasting(c.ID()), err)
	}
	lock, err := dirs.Lock(c.Dirs.Lasting(c.ID()))
	if err != nil {
		return err
	}
	if err := errors.Join(dirs.RemoveAll(c.Dirs.Container(c.ID())), c.makeLinks(c.ID())); err != nil {
		return errors.Join(err, lock.Close())
	}
	err = c.FS.Close()
	c.FS = overlay.Adopt(c.Dirs, c.ID(), lock)
	c.State.Bundle = c.FS.Dir
	return err
}

// copyElder makes the folder below the root folder. What is there is replaced at once.
func (c *Held) copyElder() error {
	if err := c.FS.Unmount(); err != nil {
		return err
	}
	partial, err := dirs.NewPartial(c.Dirs.AllLasting())
	if err != nil {
		return err
	}
	defer partial.Discard()
	to, err := filepath.Abs(c.Dirs.Lasting(c.ID()))
	if err != nil {
		return err
	}
	if err := c.copyFiles(partial.Path); err != nil {
		return err
	}
	if err := c.copyChanges(partial.Path); err != nil {
		return err
	}
	if err := c.renameFolder(partial.Path, to); err != nil {
		return err
	}
	if err := syncAll(partial.Path); err != nil {
		return err
	}
	if err := unix.Renameat2(unix.AT_FDCWD, partial.Path, unix.AT_FDCWD, to, unix.RENAME_EXCHANGE); err == nil {
		return nil
	}
	return os.Rename(partial.Path, to) // it never ran, and has no log there
}

// syncAll waits until all of the file system that a folder is on is on the disk.
func syncAll(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}

// copyFiles copies what is in the container's folder beside fs, and its log.
func (c *Held) copyFiles(to string) error {
	entries, err := os.ReadDir(c.FS.Dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		from, to := filepath.Join(c.FS.Dir, e.Name()), filepath.Join(to, e.Name())
		switch isImage, _ := filepath.Match(describe.ImageLinks, e.Name()); {
		case e.Name() == "image" || isImage:
			target, err := os.Readlink(from)
			if err == nil {
				err = os.Symlink(target, to)
			}
			if err != nil {
				return err
			}
		case e.Type().IsRegular(): // no socket: those are of its last gocker
			if err := copyFile(from, to); err != nil {
				return err
			}
		}
	}
	kept := logs.Folder(c.FS.Dir)
	if kept == c.FS.Dir {
		return nil
	}
	for _, pattern := range logs.Files {
		files, err := dirs.Glob(kept, pattern)
		if err != nil {
			return err
		}
		for _, file := range files {
			if err := os.Link(file, filepath.Join(to, filepath.Base(file))); err != nil {
				return err
			}
		}
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Chmod(info.Mode().Perm()), out.Close())
}

// copyChanges copies what the container changed, as a layer is packed and unpacked: whiteouts stay whiteouts. A socket is left out.
func (c *Held) copyChanges(to string) error {
	img, err := c.ImageOf(c.ID())
	if err != nil {
		return err
	}
	lower := img.Stack(c.Dirs)
	for _, folder := range []string{"mnt", "workdir", "lowerdir"} {
		if err := os.MkdirAll(filepath.Join(to, "fs", folder), 0o755); err != nil {
			return err
		}
	}
	if len(lower) > 0 {
		os.Remove(filepath.Join(to, "fs", "lowerdir"))
	}
	r, w := io.Pipe()
	defer r.Close()
	go func() { w.CloseWithError(store.Pack(w, c.FS.Upperdir())) }()
	_, err = changeset.Unpack(r, filepath.Join(to, "fs", "upperdir"), func() (merged.Stack, error) { return lower, nil }, budget.None.Budget())
	return err
}

// renameFolder writes the container's new place into its files.
func (c *Held) renameFolder(copied, to string) error {
	spec, err := readSpec(copied)
	if err != nil {
		return err
	}
	renamed := func(file string) string {
		if rest, below := strings.CutPrefix(file, c.State.Bundle+"/"); below {
			return filepath.Join(to, rest)
		}
		return file
	}
	spec.Root.Path = renamed(spec.Root.Path)
	for i := range spec.Mounts {
		spec.Mounts[i].Source = renamed(spec.Mounts[i].Source)
	}
	s := c.State
	s.Bundle = to
	link, err := filepath.Abs(c.Dirs.Container(c.ID()))
	if err != nil {
		return err
	}
	return errors.Join(
		writeSpec(copied, spec),
		writeJSON(filepath.Join(copied, stateName), s),
		os.Symlink(link, filepath.Join(copied, runLink)))
}
