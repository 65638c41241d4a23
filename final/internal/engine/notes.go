//go:build linux

package engine

import (
	"strconv"

	"gocker/final/internal/describe"
)

// event notes what happens to a container.
func (e Engine) event(action string, s State, attributes ...string) {
	e.Events().Note("container", action, s.ID, s.Annotations, append([]string{"image", s.Image, "name", s.Name}, attributes...)...)
}

// volumeEvents note that a container begins or ends to have its volumes.
func (c *container) volumeEvents(action string) {
	points, _ := describe.MountPoints(c.Volumes(), c.spec, c.state.Bundle)
	for _, p := range points {
		switch {
		case p.Type != "volume":
		case action == "mount":
			c.Events().Note("volume", action, p.Name, nil, "container", c.state.ID, "destination", p.Destination, "driver", p.Driver,
				"propagation", string(p.Propagation), "read/write", strconv.FormatBool(p.RW))
		default:
			c.Events().Note("volume", action, p.Name, nil, "container", c.state.ID, "driver", p.Driver)
		}
	}
}
