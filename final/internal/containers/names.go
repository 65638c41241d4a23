//go:build linux

package containers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	petname "github.com/dustinkirkland/golang-petname"

	"gocker/final/internal/names"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
)

// A container's name is a link, {run}/names/{name}, and stands in its state. A command that is killed between the two
// leaves a link to a container that has another name, or is gone: that name is free. A command that changes links holds the
// lock of {run}/names.

func (store Store) names() string { return filepath.Join(store.Dirs.Run, "names") }

func (store Store) nameLink(name string) string { return filepath.Join(store.names(), name) }

// linked is the container that a name's link leads to; none is "".
func (store Store) linked(name string) (id string, err error) {
	link, err := os.Readlink(store.nameLink(name))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return filepath.Base(link), err
}

// takeName gives a container a name that no other has.
func (store Store) takeName(name, id string) error {
	lock, err := store.claimName(name, id)
	if err == nil {
		lock.Close()
	}
	return err
}

// claimName is takeName, and until lock is closed nobody else changes names.
func (store Store) claimName(name, id string) (lock *os.File, err error) {
	if !names.Valid(name) {
		return nil, advice.Add(fmt.Errorf("%q is no name for a container", name), names.Rule)
	}
	if err := store.appear(); err != nil { // or the names of some would seem to be free
		return nil, err
	}
	if s, err := store.look(dirs.Short(name)); !errors.Is(err, os.ErrNotExist) && s.ID != id && strings.HasPrefix(s.Whole(), name) {
		return nil, advice.Add(fmt.Errorf("%w: %q is the id of another container", ErrNameTaken, name), "choose another")
	}
	if owner, _ := store.linked(name); owner != "" {
		store.bury(func(State) {}) // it may be of one that was killed; whatever else it finds is for others to tell
	}
	if lock, err = dirs.Lock(store.names()); err != nil {
		return nil, err
	}
	if err = store.link(name, id); err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

// link makes a name's link, in place of one to a container that does not have the name. The caller holds the lock.
func (store Store) link(name, id string) error {
	owner, err := store.linked(name)
	if err != nil {
		return err
	}
	if owner != "" {
		folder := store.Dirs.Container(owner)
		_, gone := os.Lstat(folder)
		if s, err := readState(folder); !errors.Is(gone, os.ErrNotExist) && (err != nil || s.Name == name) { // with no state yet it is being made
			return advice.Add(fmt.Errorf("%w: %q is that of container %s", ErrNameTaken, name, owner), "choose another, or remove that one: gocker rm %s", name)
		}
		if err := os.Remove(store.nameLink(name)); err != nil {
			return err
		}
	}
	return os.Symlink(filepath.Join("..", "containers", id), store.nameLink(name))
}

// freeName takes a name off a container, if it is this one's.
func (store Store) freeName(name, id string) {
	lock, err := dirs.Lock(store.names())
	if err != nil {
		return // its container is gone: the name is free all the same, and bury takes the link
	}
	defer lock.Close()
	store.unlink(name, id)
}

// unlink is freeName for the holder of the lock.
func (store Store) unlink(name, id string) {
	if !names.Valid(name) {
		return
	}
	if owner, err := store.linked(name); err == nil && owner == id {
		os.Remove(store.nameLink(name))
	}
}

// freeNames removes the links of containers that are gone: their folder was removed by hand, or by a command that was killed.
func (store Store) freeNames() error {
	isGone := func(link string) bool {
		_, err := os.Stat(link)
		return errors.Is(err, os.ErrNotExist)
	}
	links, err := dirs.Links(store.names(), "*")
	for link := range links {
		if !isGone(link) {
			continue
		}
		lock, lockErr := dirs.Lock(store.names())
		if lockErr != nil {
			return errors.Join(err, lockErr)
		}
		if isGone(link) { // a moment ago the container's own link may have been about to be made
			os.Remove(link)
		}
		lock.Close()
	}
	return err
}

// takeSomeName takes the name that the user wants, or else any.
func (c *Held) takeSomeName() error {
	if c.State.Name != "" {
		return c.takeName(c.State.Name, c.State.ID)
	}
	for {
		c.State.Name = petname.Generate(2, "_")
		if err := c.takeName(c.State.Name, c.State.ID); !errors.Is(err, ErrNameTaken) {
			return err
		}
	}
}

// Rename gives a container another name.
func (store Store) Rename(name, to string) error {
	s, err := store.Find(name)
	if err != nil {
		return err
	}
	lock, err := store.claimName(to, s.ID)
	if err != nil {
		return err
	}
	defer lock.Close()
	old := s.Name
	changed, err := store.Change(s.ID, func(s *State) { old, s.Name = s.Name, to })
	if err != nil {
		store.unlink(to, s.ID)
		return err
	}
	store.Sync(changed)
	store.unlink(old, s.ID)
	store.Note("rename", changed, "oldName", old)
	return store.Networks().Rename(s.ID, old, to)
}
