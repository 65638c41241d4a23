//go:build linux

package life

import (
	"errors"
	"fmt"

	"gocker/final/internal/containers"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step06-cgroups/cgroups"
)

// RmOptions are the flags of "gocker rm".
type RmOptions struct {
	Force   bool // kill it if it runs
	Volumes bool // also those that were made for it only
	Stop    StopOptions
}

// Remove removes a container. If it runs, that is containers.ErrRunning, unless opts say to end it first.
func (life Life) Remove(name string, opts RmOptions) error {
	s, err := life.Containers.Find(name)
	if errors.Is(err, dirs.ErrDamaged) && opts.Force {
		return life.removeDamaged(s)
	}
	if err != nil {
		return err
	}
	if s.Active() && !opts.Force {
		return advice.Add(fmt.Errorf("%w: %s", containers.ErrRunning, name), "end it first: gocker stop %s", name)
	}
	if s.Active() {
		if opts.Stop.Seconds == nil {
			opts.Stop.Seconds = new(int)
		}
		if *opts.Stop.Seconds == 0 {
			opts.Stop.Signal = "SIGKILL"
		}
		if err := life.Stop(s.ID, opts.Stop); err != nil {
			return err
		}
	}
	c, err := life.Containers.Take(s.ID)
	switch {
	case errors.Is(err, containers.ErrNoContainer) && opts.Force:
		return nil // it was run with --rm
	case errors.Is(err, containers.ErrRunning) && opts.Force:
		return life.Remove(s.ID, opts) // it has started since
	}
	if err != nil {
		return err
	}
	return c.Remove(opts.Volumes || c.State.Options.Remove)
}

// removeDamaged removes a container whose state nobody can read. If it runs, its cgroup says which processes are its own.
func (life Life) removeDamaged(s containers.State) error {
	life.noRestart(s.ID)
	if cg, err := cgroups.OpenRecorded(life.Containers.Dirs.Container(s.ID)); err == nil {
		cgroups.Kill(cg)
	}
	if err := life.Containers.WaitEnd(s, killTime); err != nil {
		return err
	}
	return life.Containers.RemoveDamaged(s)
}
