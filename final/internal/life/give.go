//go:build linux

package life

import (
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/final/internal/idmap"
	"gocker/final/internal/volumes"
	"gocker/step04-overlay/story"
)

// giveMounts gives the volumes and folders of the host that are mounted with U to the container's user, as podman does, each time
// the container is started.
func (c *container) giveMounts() error {
	return c.eachGiven(func(source string, uid, gid uint32) error { return volumes.Give(source, int(uid), int(gid)) })
}

// tellGiven only tells of it.
func (c *container) tellGiven() error {
	return c.eachGiven(func(source string, uid, gid uint32) error {
		c.FS.Tell.Run(story.Host, "the container's user gets all that is in there", "chown", "-hR", fmt.Sprint(uid, ":", gid), source)
		return nil
	})
}

func (c *container) eachGiven(give func(source string, uid, gid uint32) error) error {
	for _, m := range c.Spec.Mounts {
		if !slices.Contains(m.Options, "U") || m.Type != "bind" {
			continue
		}
		user, linux := c.Spec.Process.User, c.Spec.Linux
		if slices.Contains(m.Options, "idmap") { // on the disk it has the numbers that it has inside
			linux = &specs.Linux{}
		}
		uid, err := idmap.Host(linux.UIDMappings, user.UID)
		gid, groupErr := idmap.Host(linux.GIDMappings, user.GID)
		if err := errors.Join(err, groupErr); err != nil {
			return err
		}
		if err := give(m.Source, uid, gid); err != nil {
			return fmt.Errorf("mount %q with U: %w", m.Destination, err)
		}
	}
	return nil
}
