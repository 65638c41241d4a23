//go:build linux

package engine

import (
	"strconv"

	"gocker/final/internal/describe"
	"gocker/step03-layers/layers"
)

// event notes what happens to a container.
func (e Engine) event(action string, s State, attributes ...string) {
	e.Events().Note("container", action, s.ID, s.Annotations, append([]string{"image", s.Image, "name", s.Name}, attributes...)...)
}

// imageEvent notes what happens to an image. To registries and who pulls it is known by a name, to all others by its digest.
func (e Engine) imageEvent(action string, img layers.Image, id, name string) {
	e.Events().Note("image", action, id, img.Config.Config.Labels, "name", name)
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
