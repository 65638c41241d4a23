//go:build linux

package life

import (
	"errors"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/final/internal/containers"
	"gocker/final/internal/describe"
	"gocker/final/internal/resources"
	"gocker/step06-cgroups/cgroups"
)

// UpdateOptions are the flags of "gocker update". An empty field changes nothing.
type UpdateOptions struct {
	Limits  resources.Limits
	Restart *describe.RestartPolicy
}

// Update changes a container, now if it runs, and for its next start.
func (life Life) Update(name string, opts UpdateOptions) error {
	s, err := life.Containers.Find(name)
	if err != nil {
		return err
	}
	if opts.Restart != nil {
		if err := opts.Restart.Check(); err != nil {
			return err
		}
	}
	if opts.Restart != nil && opts.Restart.Wanted() && s.Options.Remove {
		return fmt.Errorf("update %s: --restart: %w: it is removed at its end", name, describe.ErrOption)
	}
	var updateErr error
	s, err = life.Containers.Change(s.ID, func(s *containers.State) { // so only one changes config.json at a time
		if updateErr = life.updateSpec(*s, opts.Limits); updateErr == nil && opts.Restart != nil {
			s.Options.Restart = *opts.Restart
		}
		if l := opts.Limits; updateErr == nil && (l.CPUs != "" || l.CPUPeriod != 0 || l.CPUQuota != 0) {
			s.Options.Limits.CPUs = l.CPUs // docker tells how the share was named last
		}
	})
	if err := errors.Join(updateErr, err); err != nil {
		return fmt.Errorf("update %s: %w", name, err)
	}
	life.Containers.Sync(s)
	life.Containers.Note("update", s)
	return nil
}

func (life Life) updateSpec(s containers.State, limits resources.Limits) error {
	spec, err := life.Containers.ReadSpec(s.ID)
	if err != nil {
		return err
	}
	if spec.Linux.Resources == nil {
		spec.Linux.Resources = &specs.LinuxResources{}
	}
	if err := limits.Apply(spec.Linux.Resources); err != nil {
		return err
	}
	if s.Status == specs.StateRunning {
		cg, err := cgroups.OpenRecorded(life.Containers.Dirs.Container(s.ID))
		if err == nil {
			err = resources.Update(cg, spec.Linux.Resources)
		}
		if err != nil {
			return err
		}
	}
	return life.Containers.WriteSpec(s.ID, spec)
}
