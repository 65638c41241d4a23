//go:build linux

package engine

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step01-pull/advice"
	"gocker/step01-pull/dirs"
	"gocker/step04-overlay/overlay"
	"gocker/step06-cgroups/cgroups"
)

// What can be wrong with the name of a container.
var (
	ErrNoContainer = errors.New("no such container")
	ErrNameTaken   = errors.New("the name is taken")
	ErrRunning     = errors.New("the container is running")
)

// A State is what is known of a container: {run}/containers/{id}/state.json. The first fields are those of the OCI
// runtime specification's state (runtime.md, "State"). A container whose state says "running" and whose folder nobody
// has locked is one whose gocker died.
type State struct {
	specs.State
	Name    string
	Image   string // the reference that it was made of
	ImageID string // the image's config: 64 hex digits
	Command []string
	Options RunOptions
	Volumes []string // that were made for it only, by name

	StopSignal string // the image's choice, "SIGTERM" if it has none

	Created, Started, Finished time.Time     // Started and Finished are those of the last time
	Monitor                    int           // pid of the gocker that runs it, as the host counts
	Restarts                   int           // by its restart policy
	ExitCode                   int           // as shells have it: 128 + the number of the signal that ended it
	Error                      string        // why it did not start
	OOMKilled                  bool          // a process in it was killed because memory was at its limit
	Usage                      cgroups.Stats // up to its end
}

// files are what a container's folder has, beside what overlay makes.
var files = []string{"cgroups", "config.json", "config.json.new", "hostname", "hosts", "resolv.conf", "log.json", "state.json", "state.json.new"}

// writeJSON replaces a file in a container's folder in one piece. The caller holds the lock of that, so nobody else
// writes it. It is not synced to the disk: {run} is of no use after the machine has stopped.
func writeJSON(file string, value any) error {
	raw, err := json.MarshalIndent(value, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", raw, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

func readState(folder string) (State, error) {
	var s State
	raw, err := os.ReadFile(filepath.Join(folder, "state.json"))
	if err == nil {
		err = json.Unmarshal(raw, &s)
	}
	return s, err
}

// Ps lists the containers, the newest first.
func (e Engine) Ps() ([]State, error) {
	if err := e.bury(); err != nil {
		return nil, err
	}
	folders, err := dirs.Glob(e.Dirs.Containers(), "*")
	if err != nil {
		return nil, err
	}
	var states []State
	for _, folder := range folders {
		s, err := readState(folder)
		if errors.Is(err, os.ErrNotExist) {
			continue // one that a step made, or one that is not ready yet
		}
		if err != nil {
			return nil, fmt.Errorf("container %s: read its state: %w", filepath.Base(folder), err)
		}
		states = append(states, s)
	}
	slices.SortFunc(states, func(a, b State) int { return b.Created.Compare(a.Created) })
	return states, nil
}

// find returns the container that has this name, this id, or the only one whose id begins so.
func (e Engine) find(name string) (State, error) {
	states, err := e.Ps()
	if err != nil {
		return State{}, err
	}
	var found []State
	for _, s := range states {
		if s.Name == name || s.ID == name {
			return s, nil
		}
		if name != "" && strings.HasPrefix(s.ID, name) {
			found = append(found, s)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return State{}, advice.Add(fmt.Errorf("%w: %q", ErrNoContainer, name), "to see those that are here: gocker ps --all")
	}
	return State{}, fmt.Errorf("%w: %d ids begin with %q", ErrNoContainer, len(found), name)
}

// Rm removes a container, and with volumes also those that were made for it only. One that runs is ErrRunning, unless
// force says to kill it first.
func (e Engine) Rm(name string, force, volumes bool) error {
	s, err := e.find(name)
	if err != nil {
		return err
	}
	if force && s.Status == specs.StateRunning {
		if err := e.Kill(s.ID, "SIGKILL"); err != nil {
			return err
		}
		if err := e.waitEnd(s, killTime); err != nil {
			return err
		}
	}
	if s.Status == specs.StateRunning && !force {
		return advice.Add(fmt.Errorf("%w: %s", ErrRunning, name), "end it first: gocker stop %s", name)
	}
	for {
		c, err := e.hold(s.ID)
		switch {
		case errors.Is(err, dirs.ErrLocked):
			time.Sleep(time.Millisecond) // it has ended: somebody only has a look at it
			continue
		case errors.Is(err, os.ErrNotExist) && force:
			return nil // it was run with --rm
		case err != nil:
			return err
		}
		return c.remove(volumes || c.state.Options.Remove)
	}
}

// remove takes away all of a container, and with volumes those that were made for it only. state.json goes first: without it, the rest is a dead container's.
func (c *container) remove(volumes bool) error {
	c.freeName(c.state)
	os.Remove(filepath.Join(c.fs.Dir, "state.json"))
	err := c.fs.Remove()
	if volumes { // now nobody has them
		err = errors.Join(err, c.removeVolumes())
	}
	return err
}

// close keeps a container that does not run.
func (c *container) close() error {
	defer c.fs.Close()
	return errors.Join(c.fs.Unmount(), c.writeState())
}

func (c *container) writeState() error {
	return writeJSON(filepath.Join(c.fs.Dir, "state.json"), c.state)
}

// hold takes a container that nobody else has, as it is. dirs.ErrLocked says that somebody has it.
func (e Engine) hold(id string) (*container, error) {
	f, err := overlay.Open(e.Dirs, id)
	if err != nil {
		return nil, err
	}
	c := &container{Engine: e, fs: f}
	if c.state, err = readState(f.Dir); err != nil {
		f.Close()
		return nil, fmt.Errorf("container %s: read its state: %w", id, err)
	}
	return c, nil
}

// ready mounts what hold has taken, so that it can be run.
func (c *container) ready() error {
	view, err := c.view(c.state.ID)
	if err != nil {
		return err
	}
	c.fs.Lower = view.Lower
	if c.spec, err = c.readSpec(c.state.ID); err != nil {
		return err
	}
	return c.fs.Mount()
}

// bury takes away what containers whose gocker died have left. Those that are to be kept are kept, as stopped.
func (e Engine) bury() error {
	dead, err := overlay.Dead(e.Dirs, files...)
	for _, f := range dead {
		err = errors.Join(err, e.buryOne(f))
	}
	return err
}

func (e Engine) buryOne(f *overlay.FS) error {
	s, err := readState(f.Dir)
	c := &container{Engine: e, fs: f, state: s}
	if err == nil && s.Status != specs.StateRunning {
		return f.Close()
	}
	cgErr := cgroups.RemoveRecorded(f)
	if err != nil || s.Options.Remove {
		return errors.Join(cgErr, c.remove(s.Options.Remove))
	}
	c.state.Status, c.state.Pid, c.state.Monitor = specs.StateStopped, 0, 0
	c.state.ExitCode, c.state.Finished = 137, time.Now() // it was killed with its gocker
	return errors.Join(cgErr, c.close())
}

// nameChars is what docker allows.
var nameChars = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

func (e Engine) nameLink(name string) string { return filepath.Join(e.Dirs.Run, "names", name) }

// takeName makes {run}/names/{name}, a link to the container. Only one can make it, so no lock is needed.
func (e Engine) takeName(name, id string) error {
	if !nameChars.MatchString(name) {
		return advice.Add(fmt.Errorf("%q is no name for a container", name), "names have letters, digits and _.- and begin with a letter or digit")
	}
	link := e.nameLink(name)
	if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
		return err
	}
	for {
		err := os.Symlink(filepath.Join("..", "containers", id), link)
		if !errors.Is(err, os.ErrExist) {
			return err
		}
		if _, err := os.Stat(link); err == nil {
			owner, _ := os.Readlink(link) // only for the message
			return advice.Add(fmt.Errorf("%w: %q is that of container %s", ErrNameTaken, name, filepath.Base(owner)),
				"choose another, or remove that one: gocker rm %s", name)
		}
		if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) { // its container is gone
			return err
		}
	}
}

func (e Engine) freeName(s State) {
	if owner, err := os.Readlink(e.nameLink(cmp.Or(s.Name, "-"))); err == nil && filepath.Base(owner) == s.ID {
		os.Remove(e.nameLink(s.Name)) // what stays points nowhere, and the next who wants it removes it
	}
}
