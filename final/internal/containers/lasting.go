//go:build linux

package containers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gocker/final/internal/logs"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step04-overlay/story"
)

// A container lies on the disk, below the root folder: the run folder is memory on many machines, and is lost when the machine
// starts anew. Links lead there and back:
//
//	{run}/containers/{id}        to {root}/containers/{id}, where all of the container is
//	{root}/containers/{id}/run   to {run}/containers/{id}: whose it is, as a root folder may belong to several run folders
//	{run}/names/{name}           to ../containers/{id}
//
// The links below the run folder are made again if they are gone: see appear. A folder of a step is itself in
// {run}/containers, and so is one of a gocker before this one, until it moves: see moveElder.

const runLink = "run"

// makeFolder makes the folder of a new container, with its link, and locks it.
func (store Store) makeFolder(link string) (lock *os.File, err error) {
	folder, err := filepath.Abs(store.Dirs.Lasting(filepath.Base(link)))
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
		return nil, err
	}
	if lock, err = dirs.Lock(folder); err != nil {
		return nil, err
	}
	if err = os.Symlink(link, filepath.Join(folder, runLink)); err == nil {
		err = os.Symlink(folder, link)
	}
	if err != nil && !errors.Is(err, os.ErrExist) { // somebody else has seen it, and made its link
		lock.Close()
		return nil, errors.Join(fmt.Errorf("make the folder of a container: %w", err), os.RemoveAll(folder))
	}
	return lock, nil
}

// removeFiles removes all that a container has on disk, and gives up the lock.
func (c *Held) removeFiles() error {
	if err := c.FS.Remove(); err != nil {
		return err
	}
	var err error
	lasting := c.Dirs.Lasting(c.ID())
	if _, gone := os.Lstat(lasting); gone == nil { // a gocker before this one made it, and has its log there
		err = dirs.RemoveAll(lasting)
	}
	if link := c.Dirs.Container(c.ID()); os.Remove(link) == nil {
		c.FS.Tell.Run(story.After, "the link to it", "rm", link)
	}
	return err
}

// Sync waits until the state and the description of a container are on the disk, so that a power cut takes neither. A start does
// not wait for that, and does it beside all else. An end need not: to unmount the container's file system does the same. One
// that is removed at its end needs it never.
func (store Store) Sync(s State) {
	if s.Options.Remove {
		return
	}
	for _, name := range []string{specName, stateName} {
		if f, err := os.Open(filepath.Join(store.Dirs.Container(s.ID), name)); err == nil { // else it is gone
			f.Sync()
			f.Close()
		}
	}
}

// appear makes the links of containers that have none: the machine has started anew, or somebody removed the run folder. It
// takes away links of containers that are gone.
func (store Store) appear() error {
	lasting, err := entries(store.Dirs.AllLasting())
	if err != nil {
		return err
	}
	linked, err := entries(store.Dirs.Containers())
	if err != nil {
		return err
	}
	for id := range linked {
		link := store.Dirs.Container(id)
		if lasting[id] {
			continue
		}
		if _, err := os.Stat(link); errors.Is(err, os.ErrNotExist) { // made a moment ago, or a folder itself: it is there
			os.Remove(link)
		}
	}
	run, ours := dirs.Resolve(store.Dirs.Containers()), map[string]bool{}
	for id := range lasting {
		if linked[id] || strings.HasPrefix(id, ".") {
			continue
		}
		link, linkErr := os.Readlink(filepath.Join(store.Dirs.Lasting(id), runLink))
		if errors.Is(linkErr, os.ErrNotExist) {
			removeEmpty(store.Dirs.Lasting(id))
			continue
		}
		if linkErr != nil {
			err = errors.Join(err, linkErr)
			continue
		}
		owner := filepath.Dir(link)
		if _, known := ours[owner]; !known {
			ours[owner] = dirs.Resolve(owner) == run
		}
		if ours[owner] {
			err = errors.Join(err, store.makeLinks(id))
		}
	}
	return err
}

// An Other is a container below the same root folder that belongs to another run folder. A user may have two: with and without
// XDG_RUNTIME_DIR.
type Other struct {
	State
	Run  string
	Held bool // by a process: it runs, or is about to
}

// Others finds them. It leaves out what it cannot read: messages only mention them.
func (store Store) Others() (others []Other) {
	lasting, _ := entries(store.Dirs.AllLasting())
	linked, _ := entries(store.Dirs.Containers())
	own := dirs.Resolve(store.Dirs.Containers())
	for id := range lasting {
		link, err := os.Readlink(filepath.Join(store.Dirs.Lasting(id), runLink))
		if linked[id] || err != nil || dirs.Resolve(filepath.Dir(link)) == own {
			continue
		}
		s, err := readState(store.Dirs.Lasting(id))
		if err != nil {
			continue
		}
		lock, err := dirs.TryLock(store.Dirs.Lasting(id))
		if err == nil {
			lock.Close()
		}
		others = append(others, Other{s, filepath.Dir(filepath.Dir(link)), errors.Is(err, dirs.ErrLocked)})
	}
	return others
}

// adviseOn says where a container is that was not found here.
func (store Store) adviseOn(name string, err error) error {
	for _, other := range store.Others() {
		if other.Name == name || strings.HasPrefix(other.Whole(), name) {
			return advice.Add(err, "it belongs to another run folder: GOCKER_RUN=%s gocker …", story.Quote(other.Run))
		}
	}
	return err
}

// entries are the names in a folder. One that is not there has none.
func entries(folder string) (map[string]bool, error) {
	f, err := os.Open(folder)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	there := map[string]bool{}
	for _, name := range names {
		there[name] = true
	}
	return there, err
}

// removeEmpty removes an empty folder: a gocker that was killed as it began to make a container has left it.
func removeEmpty(folder string) {
	if lock, err := dirs.TryLock(folder); err == nil {
		os.Remove(folder) // it fails if there is anything in it
		lock.Close()
	}
}

// makeLinks makes the links of one container. The one of its name comes first: a command that sees the container finds it by its name, too.
func (store Store) makeLinks(id string) error {
	folder, err := filepath.Abs(store.Dirs.Lasting(id))
	if err != nil {
		return err
	}
	lock, err := dirs.Lock(store.names())
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := os.MkdirAll(store.Dirs.Containers(), 0o700); err != nil {
		return err
	}
	if s, err := readState(folder); err == nil { // else it has no name that is known
		os.Symlink(filepath.Join("..", "containers", id), store.nameLink(s.Name))
	}
	if err := os.Symlink(folder, store.Dirs.Container(id)); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return nil
}

// everybody are the folders of all containers of this root folder, by id, those of other run folders too.
func (store Store) everybody() (map[string]string, error) {
	folders := map[string]string{}
	for _, parent := range []string{store.Dirs.AllLasting(), store.Dirs.Containers()} {
		ids, err := entries(parent)
		if err != nil {
			return nil, err
		}
		for id := range ids {
			folders[id] = filepath.Join(parent, id)
		}
	}
	return folders, nil
}

// Bytes is what a container takes on disk: what it changed, and its log.
func (store Store) Bytes(id string) int64 {
	return store.ChangedBytes(id) + logs.Bytes(store.Dirs.Container(id))
}

// Leftovers lists what crashes have left of containers that were being removed. The next removal removes it.
func (store Store) Leftovers() ([]string, error) { return dirs.Stale(store.Dirs.AllLasting()) }
