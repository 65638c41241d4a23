//go:build linux

package look

import (
	"gocker/final/internal/logs"
	"gocker/final/internal/why"
)

// Why tells why a container ended, or did not start.
func (look Look) Why(name string) (why.Answer, error) {
	s, err := look.Containers.Find(name)
	if err != nil {
		return why.Answer{}, err
	}
	c := why.Case{
		Name: s.Name, Status: s.Status, Created: s.Created, Started: s.Started, Finished: s.Finished,
		ExitCode: s.ExitCode, Error: s.Error, Usage: s.Usage, End: s.End, Wrote: logs.LastErrors(look.Containers.Dirs.Container(s.ID), 5),
	}
	if c.Probe = s.Probe; len(c.Probe) > 0 {
		if c.Health, err = look.Containers.Health(s); err != nil {
			return why.Answer{}, err
		}
	}
	spec, err := look.Containers.ReadSpec(s.ID)
	if err != nil {
		return why.Answer{}, err
	}
	c.Process, c.Resources = spec.Process, spec.Linux.Resources
	return c.Explain(), nil
}
