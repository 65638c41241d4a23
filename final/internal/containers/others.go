//go:build linux

package containers

import (
	"errors"
	"fmt"
	"strings"

	docker "github.com/moby/moby/api/types/container"

	"gocker/final/internal/describe"
	"gocker/step01-pull/shared/advice"
)

// NameOthers puts the ids of containers in the place of their names, which may change.
func (store Store) NameOthers(opts *describe.Isolation) error {
	for _, s := range opts.Others() {
		other, err := store.Find(s.Name())
		if err == nil {
			err = s.MayJoin(other.Options.Isolation)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
		s.SetID(other.Whole())
	}
	return nil
}

// JoinOthers finds the namespaces of other containers, which have some as long as they run, and writes them down, here and
// there. still is an error if one of them has ended since: see Still.
func (c *Held) JoinOthers() (still func() error, err error) {
	var others []State
	for _, s := range c.State.Options.Isolation.Others() {
		other, err := c.Running(s.Name())
		if err != nil {
			return nil, advice.Add(fmt.Errorf("%s: %w", s, err), "start it first: gocker start %s", s.Name())
		}
		s.Join(c.Spec, other.Pid)
		if s.IsPID() && !other.SharesPids {
			if _, err := c.Store.Change(other.ID, func(s *State) { s.SharesPids = true }); err != nil {
				return nil, fmt.Errorf("%s: %w", s, err)
			}
		}
		others = append(others, other)
	}
	still = func() (err error) {
		for _, other := range others {
			err = errors.Join(err, c.Still(other))
		}
		return err
	}
	if others == nil {
		return still, nil
	}
	return still, c.WriteSpec(c.FS.ID, c.Spec)
}

// PointsOf are, for each of --volumes-from, the volumes and folders of the host that container has.
func (store Store) PointsOf(from []string) (lent [][]docker.MountPoint, err error) {
	for _, value := range from {
		name, _, _ := strings.Cut(value, ":")
		points, err := store.pointsOf(name)
		if err != nil {
			return nil, fmt.Errorf("--volumes-from %q: %w", value, err)
		}
		lent = append(lent, points)
	}
	return lent, nil
}

func (store Store) pointsOf(name string) ([]docker.MountPoint, error) {
	s, err := store.Find(name)
	if err != nil {
		return nil, err
	}
	spec, err := store.ReadSpec(s.ID)
	if err != nil {
		return nil, err
	}
	return describe.MountPoints(store.volumes(), spec, s.Bundle)
}
