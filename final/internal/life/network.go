//go:build linux

package life

import (
	"errors"

	"gocker/final/internal/describe"
	"gocker/final/internal/networks"
	"gocker/step01-pull/shared/advice"
)

// warn says what keeps a container from the world that it is to reach, or the world from rules that somebody made.
func (life Life) warn(opts describe.Options, say func(format string, args ...any)) {
	if opts.Network.Publish != nil && len(opts.Network.Wants) == 0 {
		say("warning: with --network %s no port is published", opts.Isolation.Network)
	}
	r := networks.Request{Wants: opts.Network.Wants, Publish: opts.Network.Publish}
	for _, err := range life.Containers.Networks().Obstacles(r) {
		say("warning: %v", err)
		if a := advice.Of(err); a != "" {
			say("  %s", a)
		}
	}
}

// attach gives a container its places on networks, and writes them into its files. One that is on none has an empty
// Attachment.
func (c *container) attach() (*networks.Attachment, error) {
	opts := c.State.Options
	if len(opts.Network.Wants) == 0 {
		return &networks.Attachment{}, nil
	}
	hostname, err := describe.Hostname(opts, c.ID())
	if err != nil {
		return nil, err
	}
	a, err := c.Networks().Attach(networks.Request{
		Container: c.ID(), Names: []string{c.State.Name, c.ID(), hostname}, Wants: opts.Network.Wants, Publish: opts.Network.Publish,
		DNS: opts.Names.DNS,
	})
	if err != nil {
		return nil, err
	}
	connected, err := describe.ConnectedTo(a)
	if err == nil {
		err = describe.WriteNames(c.FS, hostname, opts, connected)
	}
	if err != nil {
		return nil, errors.Join(err, a.Leave())
	}
	return a, nil
}
