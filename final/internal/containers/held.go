//go:build linux

package containers

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/final/internal/describe"
	"gocker/final/internal/images"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/layers"
	"gocker/step04-overlay/overlay"
	"gocker/step04-overlay/story"
	"gocker/step06-cgroups/cgroups"
)

// A Held container is one that this process has: it holds the lock on its folder.
type Held struct {
	Store
	FS    *overlay.FS
	Spec  *specs.Spec
	State State
}

// ID is the name of the container's folder: the first 12 digits of its id.
func (c *Held) ID() string { return c.FS.ID }

// New makes a container of an image: its folder, its name, config.json, and at the very end state.json. Its file system is
// mounted. If it fails, nothing is left. Until it runs, or its maker changes that, it is "creating": nobody has it yet, and
// if we die, it goes.
func (store Store) New(img layers.Image, opts describe.Options, lent describe.Lent, tell story.Story) (_ *Held, err error) {
	if err := opts.Network.Complete(img.Config.Config.ExposedPorts); err != nil {
		return nil, err
	}
	config, err := images.Store{Dirs: store.Dirs}.Config(img)
	if err != nil {
		return nil, err
	}
	probe := opts.InheritHealth(config)
	f, err := store.newFS(img)
	if err != nil {
		return nil, err
	}
	f.Explain(tell)
	link := store.Dirs.Container(f.ID)
	tell.Sh(story.Host, "a link to it where containers are looked for, and one back", story.Quote("ln", "-s", f.Dir, link)+" && "+story.Quote("ln", "-s", link, filepath.Join(f.Dir, runLink)))
	c := &Held{Store: store, FS: f, State: State{
		State: specs.State{Version: specs.Version, ID: f.ID, Status: specs.StateCreating, Bundle: f.Dir},
		Rest:  moreDigits(), Name: opts.Name, Image: opts.Image.String(), ImageID: img.Digest, Created: time.Now(), Options: opts, Probe: probe,
		StopSignal: cmp.Or(opts.StopSignal, img.Config.Config.StopSignal, "SIGTERM"),
	}}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Remove(true))
		}
	}()
	if err := c.takeSomeName(); err != nil {
		return nil, err
	}
	if err := c.mapLayers(img, opts.Isolation.Users); err != nil {
		return nil, err
	}
	f.Volatile = opts.Remove
	// Its own /etc/passwd says which number its user has.
	if err := f.Mount(); err != nil {
		return nil, err
	}
	d, err := describe.Container(f, img.Config.Config, opts, lent, store.volumes())
	defer d.Release() // when config.json says that it has its volumes
	c.Spec, c.State.Volumes, c.State.Command = d.Spec, d.Volumes, d.Command
	if err != nil {
		return nil, err
	}
	if c.State.Has, err = store.volumesIn(c.Spec); err != nil {
		return nil, err
	}
	c.State.Annotations = d.Labels
	if err := cmp.Or(c.writeNewSpec(opts.Isolation.Users), c.giveFiles()); err != nil {
		return nil, err
	}
	if err := writeJSON(filepath.Join(f.Dir, stateName), c.State); err != nil {
		return nil, err
	}
	return c, nil
}

// newFS makes the folders of a new container. If it fails, nothing is left.
func (store Store) newFS(img layers.Image) (*overlay.FS, error) {
	var id string
	f, err := overlay.CreateIn(store.Dirs, img, func(folder string) (*os.File, error) {
		id = filepath.Base(folder)
		return store.makeFolder(folder)
	})
	if err != nil && id != "" { // that leaves the link
		os.Remove(store.Dirs.Container(id))
	}
	return f, err
}

// Adopt takes a container over from the process that gave this one the lock.
func (store Store) Adopt(id string, lock *os.File, tell story.Story) (*Held, error) {
	c := &Held{Store: store, FS: overlay.Adopt(store.Dirs, id, lock)}
	c.FS.Tell = tell
	var err error
	if c.State, err = readState(c.FS.Dir); err != nil {
		return nil, err
	}
	c.Spec, err = c.ReadSpec(id)
	return c, err
}

// RemoveDamaged removes a container that does not run, and whose state cannot be read.
func (store Store) RemoveDamaged(s State) error {
	f, err := overlay.Open(store.Dirs, s.ID)
	if err != nil {
		return err
	}
	if err := cgroups.RemoveRecorded(f); err != nil {
		return errors.Join(err, f.Close())
	}
	c := &Held{Store: store, FS: f, State: s}
	return c.Remove(false)
}

// Remove takes away all of a container, and with volumes those that were made for it only. state.json goes first:
// without it, the rest is a dead container's.
func (c *Held) Remove(volumes bool) error {
	state := filepath.Join(c.FS.Dir, stateName)
	var now struct{ Name string } // somebody may have changed it
	if dirs.ReadJSON(state, &now) == nil {
		c.State.Name = now.Name
	}
	removed := os.Remove(state)
	c.freeName(c.State.Name, c.State.ID)
	var err error
	if volumes {
		os.Remove(filepath.Join(c.FS.Dir, specName)) // now nobody has them
		err = c.removeVolumes()
	}
	if removed == nil { // else it never was a container
		c.Note("destroy", c.State)
	}
	return errors.Join(err, c.removeFiles()) // last: a command that waits for its end waits for the lock
}

// Close keeps a container that does not run.
func (c *Held) Close() error {
	return errors.Join(c.FS.Unmount(), c.FS.Close())
}

// Change is Store.Change. The state in memory changes even if it cannot be written.
func (c *Held) Change(do func(*State)) error {
	s, err := c.Store.Change(c.State.ID, do)
	if err != nil {
		do(&c.State)
		return fmt.Errorf("container %s: write its state: %w", c.State.ID, err)
	}
	c.State = s
	return nil
}

// Take takes a container that does not run, as it is; one that does is ErrRunning.
func (store Store) Take(name string) (*Held, error) {
	for {
		s, err := store.Find(name)
		if err != nil {
			return nil, err
		}
		if s.Active() {
			return nil, advice.Add(fmt.Errorf("%w: %s", ErrRunning, name), "end it first: gocker stop %s", name)
		}
		f, err := overlay.Open(store.Dirs, s.ID)
		if errors.Is(err, dirs.ErrLocked) || errors.Is(err, os.ErrNotExist) {
			time.Sleep(time.Millisecond) // somebody has a look at it, or is about to run or to remove it
			continue
		}
		if err != nil {
			return nil, err
		}
		c := &Held{Store: store, FS: f}
		if c.State, err = readState(f.Dir); err != nil || held(c.State) {
			f.Close()
			continue // that was a moment ago
		}
		if err := cgroups.RemoveRecorded(f); err != nil { // its gocker may have died at the very end
			return nil, errors.Join(err, f.Close())
		}
		return c, nil
	}
}

// Ready mounts what Take has taken, so that it can be run.
func (c *Held) Ready(tell story.Story) error {
	if err := c.moveElder(); err != nil {
		return err
	}
	err := c.findLayers()
	if err != nil {
		return err
	}
	if c.Spec, err = c.ReadSpec(c.State.ID); err != nil {
		return err
	}
	c.FS.Tell = tell
	if err := c.FS.Unmount(); err != nil { // a gocker that began to start it may have died
		return err
	}
	return c.FS.Mount()
}

// findLayers tells the container's file system how to mount it. A process that took the container knows only its folder.
func (c *Held) findLayers() error {
	img, err := c.ImageOf(c.State.ID)
	if err != nil {
		return err
	}
	c.FS.Lower, c.FS.Volatile = c.stack(img, c.FS.Dir), c.State.Options.Remove
	return nil
}

// bury takes away what containers whose gocker died have left. Those that are to be kept are kept, as stopped, and kept
// hears of them, and of all others that nobody runs.
func (store Store) bury(kept func(State)) error {
	err := store.appear()
	err = errors.Join(err, overlay.EachDead(store.Dirs, func(f *overlay.FS) error { return store.buryOne(f, kept) }, files...))
	isThere := func(id string) bool {
		_, err := os.Lstat(store.Dirs.Container(id))
		return !errors.Is(err, os.ErrNotExist)
	}
	return errors.Join(err, store.freeNames(), store.volumes().UnmountUnused(), store.Networks().ReleaseStrays(isThere))
}

func (store Store) buryOne(f *overlay.FS, kept func(State)) error {
	s, err := readState(f.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return f.Close() // it is kept, and List says why
	}
	c := &Held{Store: store, FS: f, State: s}
	c.State.ID = f.ID
	cgErr := errors.Join(cgroups.RemoveRecorded(f), store.Networks().Release(f.ID))
	if err == nil && !held(s) {
		kept(s)
		return errors.Join(cgErr, c.Close()) // it may be mounted still
	}
	if never := s.Status == specs.StateCreating; err != nil || never || s.Options.Remove {
		if cgErr != nil { // only its folder says where its cgroup is
			return errors.Join(cgErr, c.Close())
		}
		return c.Remove(never || s.Options.Remove)
	}
	changeErr := c.Change((*State).lost)
	if changeErr == nil {
		kept(c.State)
	}
	c.Note("die", c.State, "exitCode", strconv.Itoa(c.State.ExitCode))
	return errors.Join(cgErr, changeErr, c.Close())
}
