//go:build linux

package life

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/final/internal/containers"
	"gocker/final/internal/describe"
	"gocker/final/internal/networks"
	"gocker/step01-pull/shared/advice"
	"gocker/step04-overlay/overlay"
)

// warn says what the user should know of the host before a container is connected: see networks.Store.Obstacles.
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

// attach gives a container its places on networks, and writes them into its files. A container without a network of its own
// has an empty Attachment.
func (c *container) attach(ctx context.Context) (*networks.Attachment, error) {
	opts := c.State.Options
	if opts.Isolation.Network != "" {
		return &networks.Attachment{}, nil
	}
	hostname, err := describe.Hostname(opts, c.ID())
	if err != nil {
		return nil, err
	}
	a, err := c.Networks().Attach(ctx, networks.Request{
		Container: c.ID(), ContainerID: c.State.Whole(), Names: namesOf(c.State, hostname), Wants: opts.Network.Wants, Publish: opts.Network.Publish,
		DNS: opts.Names.DNS,
	})
	if err != nil {
		return nil, err
	}
	linked, err := c.Networks().Linked(a.Endpoints)
	if err == nil {
		connected := describe.ConnectedTo(a.Endpoints, linked)
		connected.Resolver = networks.NeedsResolver(opts.Network.Wants, opts.Names.DNS)
		err = describe.WriteNames(c.FS, hostname, opts, connected)
	}
	if err != nil {
		return nil, errors.Join(err, a.Leave())
	}
	return a, nil
}

// nameNetworks replaces ids of networks, and beginnings of ids, by the networks' names.
func (life Life) nameNetworks(wanted *describe.Network) error {
	for i, want := range wanted.Wants {
		if want.Name == networks.Default {
			continue // it is made when it is needed
		}
		n, err := life.Containers.Networks().Find(want.Name)
		if err != nil {
			return fmt.Errorf("--network %s: %w", want.Name, err)
		}
		wanted.Wants[i].Name = n.Name
	}
	return nil
}

// namesOf are the names by which others on its networks find a container.
func namesOf(s containers.State, hostname string) []string { return []string{s.Name, s.ID, hostname} }

// These errors are docker's, in its words.
var (
	errShared = errors.New("container sharing network namespace with another container or host cannot be connected to any other network")
	errHost   = errors.New("container cannot be disconnected from host network or connected to host network")
	errNone   = errors.New("container cannot be connected to multiple networks with one of the networks in private (none) mode")
)

// Connect puts a container on one more network, until it is disconnected: at once if it runs.
func (life Life) Connect(name string, want networks.Want) error {
	s, err := life.Containers.Find(name)
	if err != nil {
		return err
	}
	switch mode := s.Options.Isolation.Network; {
	case want.Name == "host":
		return errHost
	case want.Name == "none":
		return errNone
	case mode == "none":
		return advice.Add(errNone, "first: gocker network disconnect none %s", name)
	case mode != "":
		return errShared
	}
	n, err := life.findNetwork(want.Name)
	if err != nil {
		return err
	}
	want.Name = n.Name // an id that was typed in part may be that of two networks one day
	return life.changeNetworks(s.ID, func(s *containers.State) error {
		if slices.ContainsFunc(s.Options.Network.Wants, func(other networks.Want) bool { return other.Is(n) }) {
			return fmt.Errorf("container %s is on network %s already", name, n.Name)
		}
		s.Options.Network.Wants = append(s.Options.Network.Wants, want)
		return nil
	}, func(s containers.State, hostname string) error {
		still := func() error { return life.Containers.Still(s) }
		return life.Containers.Networks().Connect(s.ID, s.Whole(), s.Pid, want, namesOf(s, hostname), still)
	})
}

// findNetwork finds a network that the user names. The default one is made where it is missing.
func (life Life) findNetwork(name string) (networks.Network, error) {
	if name == networks.Default {
		if err := life.Containers.Networks().MakeDefault(); err != nil {
			return networks.Network{}, err
		}
	}
	return life.Containers.Networks().Find(name)
}

// Disconnect takes a container off a network, until it is connected again.
func (life Life) Disconnect(name, network string) error {
	s, err := life.Containers.Find(name)
	if err != nil {
		return err
	}
	switch mode := s.Options.Isolation.Network; {
	case network == "host" || mode == "host":
		return errHost
	case network == "none" && mode == "none":
		return life.changeNetworks(s.ID, func(s *containers.State) error {
			s.Options.Isolation.Network = ""
			return nil
		}, func(containers.State, string) error {
			return advice.Add(fmt.Errorf("container %s runs, and has no resolver for networks", name), "end it first: gocker stop %s", name)
		})
	}
	n, err := life.findNetwork(network)
	if errors.Is(err, networks.ErrNoNetwork) && slices.ContainsFunc(s.Options.Network.Wants, func(want networks.Want) bool { return want.Name == network }) {
		n, err = networks.Network{Name: network}, nil // it was removed: then the container does not run
	}
	if err != nil {
		return err
	}
	return life.changeNetworks(s.ID, func(s *containers.State) error {
		i := slices.IndexFunc(s.Options.Network.Wants, func(want networks.Want) bool { return want.Is(n) })
		if i < 0 {
			return fmt.Errorf("container %s: %w %s", name, networks.ErrNotOn, n.Name)
		}
		s.Options.Network.Wants = slices.Delete(slices.Clone(s.Options.Network.Wants), i, i+1)
		return nil
	}, func(s containers.State, _ string) error {
		return life.Containers.Networks().Disconnect(s.ID, s.Pid, n)
	})
}

// DisconnectGone removes from a network what a container that is gone has left there.
func (life Life) DisconnectGone(name, network string) error {
	n, err := life.findNetwork(network)
	if err != nil {
		return err
	}
	on, err := life.Containers.Networks().On(n)
	for _, e := range on {
		if slices.Contains(e.Names, name) || strings.HasPrefix(e.Container, name) {
			return life.Containers.Networks().Disconnect(e.Container, 0, n)
		}
	}
	return errors.Join(fmt.Errorf("container %s: %w %s", name, networks.ErrNotOn, n.Name), err)
}

// changeNetworks changes the networks that a container wants. If it runs, changeNetworks also calls now, and updates
// its names. It waits for a container that is about to start or to end, so that the container has what it wants.
func (life Life) changeNetworks(id string, change func(*containers.State) error, now func(containers.State, string) error) error {
	for {
		err := life.tryNetworks(id, change, now)
		if !errors.Is(err, containers.ErrRunning) && !errors.Is(err, containers.ErrNotRunning) {
			return err
		}
	}
}

// tryNetworks returns containers.ErrRunning or ErrNotRunning if the container has been started or has ended meanwhile.
func (life Life) tryNetworks(id string, change func(*containers.State) error, now func(containers.State, string) error) error {
	s, err := life.Containers.Find(id)
	if err != nil {
		return err
	}
	keep := func() (err error) {
		changed, changeErr := life.Containers.Change(id, func(s *containers.State) { err = change(s) })
		life.Containers.Sync(changed)
		return errors.Join(err, changeErr)
	}
	switch {
	case s.Status == containers.StateRestarting: // it has no namespace now, and its monitor looks before the next start
		return keep()
	case s.Status != specs.StateRunning:
		h, err := life.Containers.Take(id)
		if err != nil {
			return err
		}
		return errors.Join(keep(), h.Close())
	}
	hostname, err := describe.Hostname(s.Options, id)
	if err != nil {
		return err
	}
	wanted := s
	if err := change(&wanted); err != nil {
		return err
	}
	if err := now(s, hostname); err != nil {
		return err
	}
	if err := keep(); err != nil {
		return err
	}
	endpoints, err := life.Containers.Networks().Of(id)
	if err != nil {
		return err
	}
	return life.rewriteNames(wanted, hostname, endpoints)
}

// rewriteNames writes into the files of a running container what its networks are now.
func (life Life) rewriteNames(s containers.State, hostname string, endpoints []networks.Endpoint) error {
	linked, err := life.Containers.Networks().Linked(endpoints)
	if err != nil {
		return err
	}
	f := overlay.At(life.Containers.Dirs, s.ID)
	connected := describe.ConnectedTo(endpoints, linked)
	connected.Resolver = networks.NeedsResolver(s.Options.Network.Wants, s.Options.Names.DNS)
	return describe.WriteNames(f, hostname, s.Options, connected)
}
