//go:build linux

package engine

import (
	"errors"
	"fmt"

	"gocker/step01-pull/shared/advice"
	"gocker/step06-cgroups/cgroups"
)

// What can be wrong with pausing a container.
var (
	ErrPaused    = errors.New("the container is paused")
	ErrNotPaused = errors.New("the container is not paused")
)

// Pause stops all processes of a running container where they are, and they do not notice.
func (e Engine) Pause(name string) error {
	s, cg, err := e.runningCgroup(name)
	if err == nil && s.Paused {
		err = fmt.Errorf("%w already: %s", ErrPaused, name)
	}
	if err != nil {
		return err
	}
	if err := cg.Freeze(); err != nil {
		return fmt.Errorf("pause %s: %w", name, err)
	}
	e.event("pause", s)
	return nil
}

// Unpause lets them go on.
func (e Engine) Unpause(name string) error {
	s, cg, err := e.runningCgroup(name)
	if err == nil && !s.Paused {
		err = fmt.Errorf("%w: %s", ErrNotPaused, name)
	}
	if err != nil {
		return err
	}
	if err := cg.Thaw(); err != nil {
		return fmt.Errorf("unpause %s: %w", name, err)
	}
	e.event("unpause", s)
	return nil
}

// runningCgroup finds a container that must run, and its cgroup.
func (e Engine) runningCgroup(name string) (State, cgroups.Cgroup, error) {
	s, err := e.running(name)
	if err != nil {
		return s, nil, err
	}
	cg, err := cgroups.OpenRecorded(e.Dirs.Container(s.ID))
	return s, cg, err
}

// askKernel completes the state of a container that runs by what only the kernel knows.
func askKernel(s *State, folder string) {
	if cg, err := cgroups.OpenRecorded(folder); err == nil {
		s.Paused = cg.Frozen()
		s.OOMKilled = s.OOMKilled || cg.OOMKills() > 0
	}
}

// notPaused is an error if a container cannot answer.
func notPaused(s State) error {
	if !s.Paused {
		return nil
	}
	return advice.Add(fmt.Errorf("%w: %s", ErrPaused, s.Name), "let it go on: gocker unpause %s", s.Name)
}

// thawKilled lets a container go on that was sent a signal: with v1 not even SIGKILL ends what is frozen.
func (e Engine) thawKilled(s State) error {
	if !s.Paused {
		return nil
	}
	if err := e.Unpause(s.ID); err != nil && !errors.Is(err, ErrNotPaused) && !errors.Is(err, ErrNotRunning) && !errors.Is(err, ErrNoContainer) {
		return err
	}
	return nil
}
