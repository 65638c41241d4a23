//go:build linux

// Package containers holds the containers that are here: their folders, states, names and locks.
package containers

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/attach"
	"gocker/final/internal/describe"
	"gocker/final/internal/logs"
	"gocker/final/internal/names"
	"gocker/final/internal/networks"
	"gocker/final/internal/resources"
	"gocker/final/internal/why"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step04-overlay/overlay"
	"gocker/step06-cgroups/cgroups"
	"gocker/step06-cgroups/counters"
)

// These errors say why a container cannot do what a command wants.
var (
	ErrNoContainer = errors.New("no such container")
	ErrNameTaken   = errors.New("the name is taken")
	ErrRunning     = errors.New("the container is running")
	ErrNotRunning  = errors.New("the container is not running")
	ErrPaused      = errors.New("the container is paused")
)

// A State is what is known of a container: containers/{id}/state.json. The first fields are those of the OCI
// runtime specification's state (runtime.md, "State"). A container whose state says "running" and whose folder nobody
// has locked is one whose gocker died.
type State struct {
	specs.State        // its ID has 12 digits: the name of the container's folder
	Rest        string `json:",omitempty"` // the other 52 digits of the id: see Whole
	Name        string
	Image       string // the reference that it was made of
	ImageID     string // the image's config: 64 hex digits
	Command     []string
	Options     describe.Options
	Volumes     []string // that were made for it only, by name
	Has         []string // all its volumes, by name, as config.json has them, too

	StopSignal string // the image's choice, "SIGTERM" if it has none

	Paused bool `json:"-"` // it runs, and all its processes are frozen: the kernel knows

	Created, Started, Finished time.Time           `json:",omitzero"` // Started and Finished are those of the last time
	Monitor                    int                 // pid of the gocker that runs it, as the host counts
	Boot                       string              `json:",omitempty"` // the machine's start in which it was started: see ThisBoot
	Stopped                    bool                `json:",omitempty"` // by a user, since it was started
	Restarts                   int                 // by its restart policy
	Probe                      []string            `json:",omitempty"` // the command that asks it whether it works
	Health                     docker.HealthStatus `json:",omitempty"` // what the probes have found since its last start: see HealthStatus
	SharesPids                 bool                `json:",omitempty"` // another container is in its pid namespace, or was once
	ExitCode                   int                 // as shells have it: 128 + the number of the signal that ended it
	Error                      string              // why it did not start
	OOMKilled                  bool                // a process in it was killed because memory was at its limit
	Usage                      resources.Stats     `json:",omitzero"` // up to its end
	End                        why.End             `json:",omitzero"` // and what else was known then
}

// StateRestarting is the status of a container that has ended and will be started again.
const StateRestarting = "restarting"

// idDigits are those of an id that name the container's folder.
const idDigits = 12

// Whole is the container's id with all its digits, as docker has it: 64. Containers of older gockers have 12.
func (s State) Whole() string { return s.ID + s.Rest }

// moreDigits makes those that an id has beside the name of its folder.
func moreDigits() string {
	random := make([]byte, 32-idDigits/2)
	rand.Read(random)
	return hex.EncodeToString(random)
}

// A Store is the containers of one pair of folders.
type Store struct{ Dirs dirs.Dirs }

// Files of a container.
const (
	stateName = "state.json"
	specName  = "config.json" // its specs.Spec
)

// files are what a container's folder has, beside what overlay makes.
var files = slices.Concat(describe.Files, logs.Files, []string{attach.Name, networks.PortsName, "cgroups", runLink, mapLink, specName, specName + ".new", stateName, stateName + ".new", healthName, healthName + ".new", describe.ImageLinks})

// writeJSON replaces a file in a container's folder by one that is easily read.
func writeJSON(file string, value any) error {
	raw, err := json.MarshalIndent(value, "", "\t")
	if err != nil {
		return err
	}
	return replace(file, raw)
}

// replace replaces a file in a container's folder in one piece. It is not synced to the disk: see Sync.
func replace(file string, raw []byte) error {
	err := writeRoomy(file+".new", raw)
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

// Read reads a container's state. It is os.ErrNotExist for a folder that is no container of ours, is not ready yet, or
// is being removed. After any other error the container may be there: it is kept.
func (store Store) Read(id string) (State, error) { return readState(store.Dirs.Container(id)) }

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

// Change changes a container's state, and returns it. Its gocker does so, and a command that renames it: so there is a lock for
// this moment, on the folder fs in the container's folder.
func (store Store) Change(id string, do func(*State)) (State, error) {
	folder := store.Dirs.Container(id)
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

// List lists the containers, the newest first. An error names those that cannot be read. All others are in the list.
func (store Store) List() ([]State, error) {
	buried := map[string]State{} // so each state is read once
	buryErr := store.bury(func(s State) { buried[s.ID] = s })
	folders, err := dirs.Glob(store.Dirs.Containers(), "*")
	if err != nil {
		return nil, err
	}
	var states []State
	var unread []error
	for _, folder := range folders {
		s, ok := buried[filepath.Base(folder)]
		var err error
		if !ok {
			s, err = readState(folder)
		}
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

// Find returns the container whose id this is, or its first 12 digits or more; or else the one of this name, with or without
// docker's "/" before it; or else the only one whose id begins so.
func (store Store) Find(name string) (State, error) {
	s, err := store.find(name)
	if errors.Is(err, ErrNoContainer) && store.appear() == nil {
		s, err = store.find(name)
	}
	if errors.Is(err, ErrNoContainer) && name != "" {
		err = store.adviseOn(name, err)
	}
	return s, err
}

func (store Store) find(name string) (State, error) {
	name = strings.TrimPrefix(name, "/")
	if names.Valid(name) { // as ids are, too
		if s, err := store.look(dirs.Short(name)); !errors.Is(err, os.ErrNotExist) && (err != nil || strings.HasPrefix(s.Whole(), name)) {
			return s, err
		}
		id, err := store.linked(name)
		if err != nil {
			return State{}, err
		}
		if s, err := store.look(id); id != "" && !errors.Is(err, os.ErrNotExist) && (err != nil || s.Name == name) {
			return s, err
		}
	}
	entries, err := os.ReadDir(store.Dirs.Containers())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return State{}, err
	}
	var found []State
	var unread error // of the last
	for _, entry := range entries {
		if name == "" || !strings.HasPrefix(entry.Name(), name) {
			continue
		}
		s, err := store.look(entry.Name())
		if !errors.Is(err, os.ErrNotExist) {
			found, unread = append(found, s), err
		}
	}
	switch len(found) {
	case 1:
		return found[0], unread
	case 0:
		return State{}, advice.Add(fmt.Errorf("%w: %q", ErrNoContainer, name), "to see those that are here: gocker ps --all")
	}
	return State{}, fmt.Errorf("%w: %d ids begin with %q", ErrNoContainer, len(found), name)
}

// look reads a container's state. If the container's gocker has died, look buries it first.
func (store Store) look(id string) (State, error) {
	folder := store.Dirs.Container(id)
	s, err := readState(folder)
	if err != nil || !held(s) {
		return s, err
	}
	f, err := overlay.Open(store.Dirs, id)
	if errors.Is(err, dirs.ErrLocked) {
		return s, nil
	}
	if err == nil {
		err = store.buryOne(f, func(State) {})
	}
	if err != nil {
		return s, err
	}
	return readState(folder)
}

// Running is Find for a container that must run.
func (store Store) Running(name string) (State, error) {
	s, err := store.Find(name)
	if err == nil && s.Status != specs.StateRunning {
		err = fmt.Errorf("%w: %s", ErrNotRunning, name)
	}
	return s, err
}

// Still is an error if a container does not run any more as the process that it was. A caller that has opened the process
// by its number asks afterwards: the number may be another process's by then.
func (store Store) Still(s State) error {
	if now, err := store.Running(s.ID); err != nil || now.Pid != s.Pid {
		return errors.Join(fmt.Errorf("%w: %s", ErrNotRunning, s.Name), err)
	}
	return nil
}

// Active tells whether a container runs, or will be started again.
func (s State) Active() bool { return s.Status == specs.StateRunning || s.Status == StateRestarting }

// held tells whether a gocker must have the container.
func held(s State) bool { return s.Active() || s.Status == specs.StateCreating }

// RunningCgroup finds a container that must run, and its cgroup.
func (store Store) RunningCgroup(name string) (State, cgroups.Cgroup, error) {
	s, err := store.Running(name)
	if err != nil {
		return s, nil, err
	}
	cg, err := cgroups.OpenRecorded(store.Dirs.Container(s.ID))
	return s, cg, err
}

// askKernel completes the state of a container that runs by what only the kernel knows.
func askKernel(s *State, folder string) {
	if cg, err := cgroups.OpenRecorded(folder); err == nil {
		s.Paused = resources.Frozen(cg)
		s.OOMKilled = s.OOMKilled || counters.OOMKills(cg) > 0
	}
}

// NotPaused is an error if a container cannot answer.
func (s State) NotPaused() error {
	if !s.Paused {
		return nil
	}
	return advice.Add(fmt.Errorf("%w: %s", ErrPaused, s.Name), "continue it: gocker unpause %s", s.Name)
}
