//go:build linux

package engine

import (
	"errors"
	"fmt"

	"gocker/final/internal/containers"
	"gocker/final/internal/resources"
)

// ErrNotPaused says that a container is not paused.
var ErrNotPaused = errors.New("the container is not paused")

// Pause stops all processes of a running container where they are, and they do not notice.
func (e Engine) Pause(name string) error {
	s, cg, err := e.Containers().RunningCgroup(name)
	if err == nil && s.Paused {
		err = fmt.Errorf("%w already: %s", containers.ErrPaused, name)
	}
	if err != nil {
		return err
	}
	if err := resources.Freeze(cg); err != nil {
		return fmt.Errorf("pause %s: %w", name, err)
	}
	e.Containers().Note("pause", s)
	return nil
}

// Unpause lets them go on.
func (e Engine) Unpause(name string) error {
	s, cg, err := e.Containers().RunningCgroup(name)
	if err == nil && !s.Paused {
		err = fmt.Errorf("%w: %s", ErrNotPaused, name)
	}
	if err != nil {
		return err
	}
	if err := resources.Thaw(cg); err != nil {
		return fmt.Errorf("unpause %s: %w", name, err)
	}
	e.Containers().Note("unpause", s)
	return nil
}

// thawKilled lets a container go on that was sent a signal: with v1 not even SIGKILL ends what is frozen.
func (e Engine) thawKilled(s containers.State) error {
	if !s.Paused {
		return nil
	}
	if err := e.Unpause(s.ID); err != nil && !errors.Is(err, ErrNotPaused) && !errors.Is(err, containers.ErrNotRunning) && !errors.Is(err, containers.ErrNoContainer) {
		return err
	}
	return nil
}
