//go:build linux

package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	petname "github.com/dustinkirkland/golang-petname"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/describe"
	"gocker/final/internal/logs"
	"gocker/final/internal/names"
	"gocker/final/internal/why"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
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
	Options describe.Options
	Volumes []string // that were made for it only, by name
	Has     []string // all its volumes, by name, as config.json has them, too

	StopSignal string // the image's choice, "SIGTERM" if it has none

	Paused bool `json:"-"` // it runs, and all its processes are frozen: the kernel knows

	Created, Started, Finished time.Time     // Started and Finished are those of the last time
	Monitor                    int           // pid of the gocker that runs it, as the host counts
	Restarts                   int           // by its restart policy
	ExitCode                   int           // as shells have it: 128 + the number of the signal that ended it
	Error                      string        // why it did not start
	OOMKilled                  bool          // a process in it was killed because memory was at its limit
	Usage                      cgroups.Stats // up to its end
	End                        why.End       // and what else was known then
}

// StateRestarting is the status of a container that has ended and will be started again.
const StateRestarting = "restarting"

// stateName is the file of a container's state.
const stateName = "state.json"

// files are what a container's folder has, beside what overlay makes.
var files = append([]string{"attach", "cgroups", "config.json", "config.json.new", "hostname", "hosts", "init", "resolv.conf", "state.json", "state.json.new"}, logs.Files...)

// writeJSON replaces a file in a container's folder in one piece. It is not synced to the disk: {run} is of no use after
// the machine has stopped.
func writeJSON(file string, value any) error {
	raw, err := json.MarshalIndent(value, "", "\t")
	if err != nil {
		return err
	}
	err = writeRoomy(file+".new", raw)
	if err == nil {
		return os.Rename(file+".new", file)
	}
	os.Remove(file + ".new")
	if errors.Is(err, unix.ENOSPC) && overwrite(file, raw) == nil {
		return nil // or a container could neither be seen to have ended nor be removed, which would make room
	}
	return err
}

// writeRoomy writes a file that has room for more than is in it: for overwrite.
func writeRoomy(file string, raw []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	const room = 4096                                                              // bytes
	unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, int64(len(raw))+room) // not every file system can
	return errors.Join(err, f.Close())
}

// overwrite is for a disk that is full: it takes the room that the file has, and one write(2), with spaces up to its end.
func overwrite(file string, raw []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return err
	}
	const unit = 512 // of st_blocks: see inode(7)
	if int64(len(raw)) > stat.Blocks*unit {
		return unix.ENOSPC
	}
	_, err = f.Write(append(raw, bytes.Repeat([]byte(" "), max(0, int(stat.Size)-len(raw)))...))
	return err
}

// readState is os.ErrNotExist for what is no container of ours, not ready yet, or being removed. Any other error says
// nothing of the kind: that one is kept.
func readState(folder string) (State, error) {
	var s State
	if err := dirs.ReadJSON(filepath.Join(folder, stateName), &s); err != nil {
		s = State{}
		s.ID = filepath.Base(folder)
		return s, broken(s.ID, stateName, err)
	}
	if s.Status == specs.StateRunning {
		askKernel(&s, folder)
	}
	return s, nil
}

// change changes a container's state, and returns it. Its gocker does so, and whoever renames it: so there is a lock for
// this moment, on the folder fs in the container's folder.
func (e Engine) change(id string, do func(*State)) (State, error) {
	folder := e.Dirs.Container(id)
	lock, err := dirs.LockExisting(filepath.Join(folder, "fs"))
	if err != nil {
		return State{}, err
	}
	defer lock.Close()
	s, err := readState(folder)
	if err != nil {
		return s, err
	}
	do(&s)
	return s, writeJSON(filepath.Join(folder, stateName), s)
}

// Ps lists the containers, the newest first. An error tells of those that cannot be read; all others are in the list.
func (e Engine) Ps() ([]State, error) {
	buryErr := e.bury()
	folders, err := dirs.Glob(e.Dirs.Containers(), "*")
	if err != nil {
		return nil, err
	}
	var states []State
	var unread []error
	for _, folder := range folders {
		s, err := readState(folder)
		switch {
		case err == nil:
			states = append(states, s)
		case !errors.Is(err, os.ErrNotExist): // else one that a step made, or one that is not ready yet
			unread = append(unread, err)
		}
	}
	slices.SortFunc(states, func(a, b State) int { return b.Created.Compare(a.Created) })
	return states, errors.Join(append(unread, buryErr)...)
}

// find returns the container that has this id, or else this name, with or without docker's "/" before it, or else the only
// one whose id begins so.
func (e Engine) find(name string) (State, error) {
	name = strings.TrimPrefix(name, "/")
	if names.Valid(name) { // as ids are, too
		if s, err := e.look(name); !errors.Is(err, os.ErrNotExist) {
			return s, err
		}
		id, err := e.linked(name)
		if err != nil {
			return State{}, err
		}
		if s, err := e.look(id); id != "" && !errors.Is(err, os.ErrNotExist) && (err != nil || s.Name == name) {
			return s, err
		}
	}
	entries, err := os.ReadDir(e.Dirs.Containers())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return State{}, err
	}
	var found []State
	for _, entry := range entries {
		if name == "" || !strings.HasPrefix(entry.Name(), name) {
			continue
		}
		s, err := e.look(entry.Name())
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return State{}, err
		}
		found = append(found, s)
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return State{}, advice.Add(fmt.Errorf("%w: %q", ErrNoContainer, name), "to see those that are here: gocker ps --all")
	}
	return State{}, fmt.Errorf("%w: %d ids begin with %q", ErrNoContainer, len(found), name)
}

// look reads a container's state. One whose gocker died is buried first.
func (e Engine) look(id string) (State, error) {
	folder := e.Dirs.Container(id)
	s, err := readState(folder)
	if err != nil || !held(s) {
		return s, err
	}
	f, err := overlay.Open(e.Dirs, id)
	if errors.Is(err, dirs.ErrLocked) {
		return s, nil
	}
	if err == nil {
		err = e.buryOne(f)
	}
	if err != nil {
		return s, err
	}
	return readState(folder)
}

// RmOptions are the flags of "gocker rm".
type RmOptions struct {
	Force   bool // kill it if it runs; and one that is not there is no error
	Volumes bool // also those that were made for it only
	Stop    StopOptions
}

// Rm removes a container. One that runs is ErrRunning, unless opts say to end it first.
func (e Engine) Rm(name string, opts RmOptions) error {
	s, err := e.find(name)
	if errors.Is(err, ErrNoContainer) && opts.Force {
		return nil
	}
	if errors.Is(err, dirs.ErrDamaged) && opts.Force {
		return e.removeDamaged(s)
	}
	if err != nil {
		return err
	}
	if active(s) && !opts.Force {
		return advice.Add(fmt.Errorf("%w: %s", ErrRunning, name), "end it first: gocker stop %s", name)
	}
	if active(s) {
		if opts.Stop.Seconds == nil {
			opts.Stop.Seconds = new(int)
		}
		if *opts.Stop.Seconds == 0 {
			opts.Stop.Signal = "SIGKILL"
		}
		if err := e.Stop(s.ID, opts.Stop); err != nil {
			return err
		}
	}
	c, err := e.take(s.ID)
	switch {
	case errors.Is(err, ErrNoContainer) && opts.Force:
		return nil // it was run with --rm
	case errors.Is(err, ErrRunning) && opts.Force:
		return e.Rm(s.ID, opts) // it has started since
	}
	if err != nil {
		return err
	}
	return c.remove(opts.Volumes || c.state.Options.Remove)
}

// removeDamaged removes a container that nobody runs, and whose state nobody can read.
func (e Engine) removeDamaged(s State) error {
	f, err := overlay.Open(e.Dirs, s.ID)
	if err != nil {
		return err
	}
	if err := cgroups.RemoveRecorded(f); err != nil {
		return errors.Join(err, f.Close())
	}
	c := &container{Engine: e, fs: f, state: s}
	return c.remove(false)
}

// remove takes away all of a container, and with volumes those that were made for it only. state.json goes first:
// without it, the rest is a dead container's.
func (c *container) remove(volumes bool) error {
	if s, err := readState(c.fs.Dir); err == nil {
		c.state.Name = s.Name
	}
	removed := os.Remove(filepath.Join(c.fs.Dir, stateName))
	c.freeName(c.state.Name, c.state.ID)
	err := c.fs.Remove()
	if volumes { // now nobody has them
		err = errors.Join(err, c.removeVolumes())
	}
	if removed == nil { // else it never was a container
		c.event("destroy", c.state)
	}
	return err
}

// close keeps a container that does not run.
func (c *container) close() error {
	return errors.Join(c.fs.Unmount(), c.fs.Close())
}

// change is Engine.change. What is known here is the same even if it cannot be written.
func (c *container) change(do func(*State)) error {
	s, err := c.Engine.change(c.state.ID, do)
	if err != nil {
		do(&c.state)
		return fmt.Errorf("container %s: write its state: %w", c.state.ID, err)
	}
	c.state = s
	return nil
}

// take takes a container that does not run, as it is; one that does is ErrRunning.
func (e Engine) take(name string) (*container, error) {
	for {
		s, err := e.find(name)
		if err != nil {
			return nil, err
		}
		if active(s) {
			return nil, advice.Add(fmt.Errorf("%w: %s", ErrRunning, name), "end it first: gocker stop %s", name)
		}
		f, err := overlay.Open(e.Dirs, s.ID)
		if errors.Is(err, dirs.ErrLocked) || errors.Is(err, os.ErrNotExist) {
			time.Sleep(time.Millisecond) // somebody has a look at it, or is about to run or to remove it
			continue
		}
		if err != nil {
			return nil, err
		}
		c := &container{Engine: e, fs: f}
		if c.state, err = readState(f.Dir); err != nil || held(c.state) {
			f.Close()
			continue // that was a moment ago
		}
		if err := cgroups.RemoveRecorded(f); err != nil { // whoever ran it may have died at the very end
			return nil, errors.Join(err, f.Close())
		}
		return c, nil
	}
}

// ready mounts what take has taken, so that it can be run.
func (c *container) ready() error {
	view, err := c.view(c.state.ID)
	if err != nil {
		return err
	}
	c.fs.Lower, c.fs.Tell, c.fs.Volatile = view.Lower, c.Tell, c.state.Options.Remove
	if c.spec, err = c.readSpec(c.state.ID); err != nil {
		return err
	}
	if err := c.fs.Unmount(); err != nil { // whoever began to start it may have died
		return err
	}
	return c.fs.Mount()
}

// bury takes away what containers whose gocker died have left. Those that are to be kept are kept, as stopped.
func (e Engine) bury() error {
	err := overlay.EachDead(e.Dirs, e.buryOne, files...)
	return errors.Join(err, e.freeNames())
}

func (e Engine) buryOne(f *overlay.FS) error {
	s, err := readState(f.Dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return f.Close() // it is kept, and Ps says why
	}
	c := &container{Engine: e, fs: f, state: s}
	c.state.ID = f.ID
	cgErr := cgroups.RemoveRecorded(f)
	if err == nil && !held(s) {
		return errors.Join(cgErr, c.close()) // it may be mounted still
	}
	if never := s.Status == specs.StateCreating; err != nil || never || s.Options.Remove {
		if cgErr != nil { // only its folder says where its cgroup is
			return errors.Join(cgErr, c.close())
		}
		return c.remove(never || s.Options.Remove)
	}
	changeErr := c.change(func(s *State) {
		if s.Status == specs.StateRunning {
			s.ExitCode, s.Finished, s.End = 137, time.Now(), why.End{Orphaned: true} // it was killed with its gocker
		}
		s.Status, s.Pid, s.Monitor = specs.StateStopped, 0, 0
	})
	c.event("die", c.state, "exitCode", strconv.Itoa(c.state.ExitCode))
	return errors.Join(cgErr, changeErr, c.close())
}

// A container's name is a link, {run}/names/{name}, and stands in its state. If it is killed, a command that changes both
// may leave a link to a container that says another name, or is gone: that name is free. Whoever changes links holds the
// lock of {run}/names.

func (e Engine) names() string { return filepath.Join(e.Dirs.Run, "names") }

func (e Engine) nameLink(name string) string { return filepath.Join(e.names(), name) }

// linked is the container that a name's link leads to; none is "".
func (e Engine) linked(name string) (id string, err error) {
	link, err := os.Readlink(e.nameLink(name))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return filepath.Base(link), err
}

// takeName gives a container a name that no other has.
func (e Engine) takeName(name, id string) error {
	lock, err := e.claimName(name, id)
	if err == nil {
		lock.Close()
	}
	return err
}

// claimName is takeName, and until lock is closed nobody else changes names.
func (e Engine) claimName(name, id string) (lock *os.File, err error) {
	if !names.Valid(name) {
		return nil, advice.Add(fmt.Errorf("%q is no name for a container", name), names.Rule)
	}
	if _, err := os.Lstat(e.Dirs.Container(name)); err == nil && name != id {
		return nil, advice.Add(fmt.Errorf("%w: %q is the id of another container", ErrNameTaken, name), "choose another")
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if owner, _ := e.linked(name); owner != "" {
		e.bury() // it may be of one that was killed; whatever else it finds is for others to tell
	}
	if lock, err = dirs.Lock(e.names()); err != nil {
		return nil, err
	}
	if err = e.link(name, id); err != nil {
		lock.Close()
		return nil, err
	}
	return lock, nil
}

// link makes a name's link, in place of one to a container that does not have the name. The caller holds the lock.
func (e Engine) link(name, id string) error {
	owner, err := e.linked(name)
	if err != nil {
		return err
	}
	if owner != "" {
		folder := e.Dirs.Container(owner)
		_, gone := os.Lstat(folder)
		if s, err := readState(folder); !errors.Is(gone, os.ErrNotExist) && (err != nil || s.Name == name) { // with no state yet it is being made
			return advice.Add(fmt.Errorf("%w: %q is that of container %s", ErrNameTaken, name, owner), "choose another, or remove that one: gocker rm %s", name)
		}
		if err := os.Remove(e.nameLink(name)); err != nil {
			return err
		}
	}
	return os.Symlink(filepath.Join("..", "containers", id), e.nameLink(name))
}

// freeName takes a name off a container, if it is this one's.
func (e Engine) freeName(name, id string) {
	lock, err := dirs.Lock(e.names())
	if err != nil {
		return // its container is gone: the name is free all the same, and bury takes the link
	}
	defer lock.Close()
	e.unlink(name, id)
}

// unlink is freeName for the holder of the lock.
func (e Engine) unlink(name, id string) {
	if !names.Valid(name) {
		return
	}
	if owner, err := e.linked(name); err == nil && owner == id {
		os.Remove(e.nameLink(name))
	}
}

// freeNames removes the links of containers that are gone: their folder was removed by hand, or by one that was killed.
func (e Engine) freeNames() error {
	links, err := dirs.Links(e.names(), "*")
	for link, target := range links {
		if _, err := os.Stat(link); errors.Is(err, os.ErrNotExist) {
			e.freeName(filepath.Base(link), filepath.Base(target))
		}
	}
	return err
}

// takeSomeName takes the name that the user wants, or else any.
func (c *container) takeSomeName() error {
	if c.state.Name != "" {
		return c.takeName(c.state.Name, c.state.ID)
	}
	for {
		c.state.Name = petname.Generate(2, "_")
		if err := c.takeName(c.state.Name, c.state.ID); !errors.Is(err, ErrNameTaken) {
			return err
		}
	}
}
