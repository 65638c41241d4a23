//go:build linux

package life

import (
	"errors"
	"fmt"

	"gocker/final/internal/containers"
	"gocker/final/internal/resources"
)

// ErrNotPaused says that a container is not paused.
var ErrNotPaused = errors.New("the container is not paused")

// Pause stops all processes of a running container where they are, and they do not notice.
func (life Life) Pause(name string) error {
	s, cg, err := life.Containers.RunningCgroup(name)
	if err == nil && s.Paused {
		err = fmt.Errorf("%w already: %s", containers.ErrPaused, name)
	}
	if err != nil {
		return err
	}
	if err := resources.Freeze(cg); err != nil {
		return fmt.Errorf("pause %s: %w", name, err)
	}
	life.Containers.Note("pause", s)
	return nil
}

// Unpause lets them go on.
func (life Life) Unpause(name string) error {
	s, cg, err := life.Containers.RunningCgroup(name)
	if err == nil && !s.Paused {
		err = fmt.Errorf("%w: %s", ErrNotPaused, name)
	}
	if err != nil {
		return err
	}
	if err := resources.Thaw(cg); err != nil {
		return fmt.Errorf("unpause %s: %w", name, err)
	}
	life.Containers.Note("unpause", s)
	return nil
}

// thawKilled lets a container go on that was sent a signal: with v1 not even SIGKILL ends what is frozen.
func (life Life) thawKilled(s containers.State) error {
	if !s.Paused {
		return nil
	}
	if err := life.Unpause(s.ID); err != nil && !errors.Is(err, ErrNotPaused) && !errors.Is(err, containers.ErrNotRunning) && !errors.Is(err, containers.ErrNoContainer) {
		return err
	}
	return nil
}
