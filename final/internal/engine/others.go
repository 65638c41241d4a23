//go:build linux

package engine

import (
	"fmt"
	"path/filepath"
	"strings"

	docker "github.com/moby/moby/api/types/container"

	"gocker/final/internal/describe"
	"gocker/step01-pull/shared/advice"
)

// nameOthers puts the ids of containers in the place of their names, which may change.
func (e Engine) nameOthers(opts *describe.Isolation) error {
	for _, s := range opts.Others() {
		other, err := e.find(s.Name())
		if err == nil {
			err = s.MayJoin(other.Options.Isolation)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
		s.SetID(other.ID)
	}
	return nil
}

// joinOthers finds the namespaces of other containers, which have some as long as they run, and writes them down.
func (c *container) joinOthers() error {
	others := c.state.Options.Isolation.Others()
	for _, s := range others {
		other, err := c.running(s.Name())
		if err != nil {
			return advice.Add(fmt.Errorf("%s: %w", s, err), "start it first: gocker start %s", s.Name())
		}
		s.Join(c.spec, other.Pid)
	}
	if len(others) == 0 {
		return nil
	}
	return writeJSON(filepath.Join(c.fs.Dir, "config.json"), c.spec)
}

// lent are, for each of --volumes-from, the volumes and folders of the host that container has.
func (e Engine) lent(from []string) (lent [][]docker.MountPoint, err error) {
	for _, value := range from {
		name, _, _ := strings.Cut(value, ":")
		points, err := e.pointsOf(name)
		if err != nil {
			return nil, fmt.Errorf("--volumes-from %q: %w", value, err)
		}
		lent = append(lent, points)
	}
	return lent, nil
}

func (e Engine) pointsOf(name string) ([]docker.MountPoint, error) {
	s, err := e.find(name)
	if err != nil {
		return nil, err
	}
	spec, err := e.readSpec(s.ID)
	if err != nil {
		return nil, err
	}
	return describe.MountPoints(e.Volumes(), spec, s.Bundle)
}
