//go:build linux

package containers

import (
	"strconv"

	"gocker/final/internal/describe"
	"gocker/final/internal/events"
)

// Events are those of containers, images and volumes.
func (store Store) Events() events.Log { return events.Log{Dirs: store.Dirs} }

// Note notes what happens to a container.
func (store Store) Note(action string, s State, attributes ...string) {
	store.Events().Note("container", action, s.Whole(), s.Annotations, append([]string{"image", s.Image, "name", s.Name}, attributes...)...)
}

// NoteVolumes note that a container begins or ends to have its volumes.
func (c *Held) NoteVolumes(action string) {
	points, _ := describe.MountPoints(c.volumes(), c.Spec, c.State.Bundle)
	for _, p := range points {
		switch {
		case p.Type != "volume":
		case action == "mount":
			c.Events().Note("volume", action, p.Name, nil, "container", c.State.Whole(), "destination", p.Destination, "driver", p.Driver,
				"propagation", string(p.Propagation), "read/write", strconv.FormatBool(p.RW))
		default:
			c.Events().Note("volume", action, p.Name, nil, "container", c.State.Whole(), "driver", p.Driver)
		}
	}
}
