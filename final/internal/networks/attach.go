//go:build linux

package networks

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"gocker/final/internal/firewall"
	"gocker/final/internal/published"
	"gocker/final/internal/rootless"
	"gocker/step04-overlay/check"
	"gocker/step05-namespaces/birth"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/network"
)

// A Request is what a container wants of networks.
type Request struct {
	Container   string   // the name of its folder
	ContainerID string   // its whole id, for events
	Names       []string // that others know it by, on networks that the user has made
	Wants       []Want
	Publish     []Publish
	DNS         []string // in place of the host's resolvers
}

// An Attachment is a container's places on networks while it runs, and what the process that holds it serves there.
type Attachment struct {
	Endpoints []Endpoint

	store     Store
	container string
	bridges   map[string]string // the device of each network, by the network's id
	publish   []Publish
	listeners *published.Listeners // nil if no port is published
	ear       *ear                 // nil if it has no ports
	resolver  *sockets
	connected func() error // waits for the way out; nil if none is wanted
	unkept    func()       // nobody makes the way out again any more
}

// Attach gives a container its places on networks, and takes its ports of the host. Nobody else gets them until Leave. If it
// fails, nothing is left. It waits for the lock until ctx ends.
func (s Store) Attach(ctx context.Context, r Request) (a *Attachment, err error) {
	err = rootless.InNetwork(func() (err error) {
		a, err = s.attach(ctx, r)
		return err
	})
	return a, err
}

func (s Store) attach(ctx context.Context, r Request) (_ *Attachment, err error) {
	lock, err := s.lockUntil(ctx)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	a := &Attachment{store: s, container: r.Container, bridges: map[string]string{}, publish: r.Publish, resolver: s.newSockets(r)}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.leave())
		}
	}()
	if slices.ContainsFunc(r.Wants, s.leadsOut) {
		if a.connected, err = rootless.Uplink(); err != nil {
			return nil, err
		}
	}
	wants := slices.Clone(r.Wants)
	slices.SortStableFunc(wants, func(a, b Want) int { return cmp.Compare(b.Priority, a.Priority) })
	for _, want := range wants {
		e, bridge, err := s.join(r.Container, r.ContainerID, want, a.Endpoints)
		if err != nil {
			return nil, err
		}
		e.Names = append(slices.Clone(r.Names), want.Aliases...)
		// One default route is enough: it leads through the first network that leads out.
		if slices.ContainsFunc(a.Endpoints, func(other Endpoint) bool { return len(other.Routers) > 0 }) {
			e.Routers = nil
		}
		a.bridges[e.NetworkID] = bridge
		a.Endpoints = append(a.Endpoints, e)
		if err := s.writeEndpoint(e); err != nil {
			return nil, err
		}
		s.noteOn("connect", e)
	}
	if len(r.Publish) > 0 {
		if a.ear, err = s.listenFor(r.Container); err != nil {
			return nil, err
		}
	}
	if err := a.listen(); err != nil {
		return nil, err
	}
	return a, nil
}

// Obstacles are what the user should know of the host before a container is connected: what its firewall drops or does not see,
// and that it becomes a router.
func (s Store) Obstacles(r Request) (found []error) {
	leadsOut := slices.ContainsFunc(r.Wants, s.leadsOut)
	if len(r.Publish) > 0 && len(r.Wants) > 0 && !leadsOut {
		found = append(found, errors.New("no port is published: none of the container's networks leads out"))
	}
	if rootless.Apart() { // the host is no router, and its firewall sees a program of the user's
		return found
	}
	for _, want := range r.Wants {
		n, err := s.Find(want.Name)
		if err != nil {
			n = Network{Device: s.DefaultDevice()}
		}
		device := n.Device
		if !n.Internal && !network.Forwards(netip.IPv4Unspecified()) {
			found = append(found, fmt.Errorf("network %s: this host becomes a router, as net.ipv4.ip_forward is set to 1", want.Name))
		}
		if err := firewall.Blocked(device); err != nil {
			found = append(found, fmt.Errorf("network %s: %w", want.Name, err))
		}
	}
	// What comes to a loopback address is for the host itself, and the host's socket passes it on.
	if slices.ContainsFunc(r.Publish, func(p Publish) bool { return !p.IP.IsLoopback() }) {
		if err := firewall.Bypassed(); err != nil {
			found = append(found, err)
		}
	}
	return found
}

// leadsOut tells whether a network that is wanted does. One that is missing is the default one.
func (s Store) leadsOut(want Want) bool {
	n, err := s.Find(want.Name)
	return err != nil || !n.Internal
}

// Part lays the cables while the container's file systems are mounted: each of the two waits for the kernel a while.
func (a *Attachment) Part() namespaces.Part {
	laid := func() (any, error) { return nil, nil }
	return namespaces.Part{
		Unshared: func() error {
			thread := unix.Gettid() // it is in the container's network namespace, and the container has no process yet
			laid = check.Elsewhere(func() (any, error) {
				return nil, rootless.InNetwork(func() error { return a.lay(thread) })
			})
			return nil
		},
		Inside: func() error {
			_, err := laid()
			return err
		},
		Last: func(*birth.List) error {
			if a.connected == nil {
				return nil
			}
			return a.connected() // before the clone: else the child may have one end of the pipe of a program that is being started
		},
		Ready: func(*namespaces.Process) error {
			if a.resolver == nil {
				return nil
			}
			return a.resolver.open() // in the network namespace of this thread
		},
		Done: func(error) { laid() }, // if the setup has failed meanwhile
	}
}

func (a *Attachment) lay(pid int) error {
	for _, e := range a.Endpoints {
		if err := e.lay(pid, a.bridges[e.NetworkID]); err != nil {
			return err
		}
	}
	return a.lead()
}

// Serve answers on the ports, and questions for names, and keeps the way out, until Leave.
func (a *Attachment) Serve() {
	if a.connected != nil {
		var ctx context.Context
		ctx, a.unkept = context.WithCancel(context.Background())
		go rootless.KeepUplink(ctx)
	}
	if a.listeners != nil {
		a.listeners.Serve()
	}
	if a.ear != nil {
		a.ear.serve(a.follow)
	}
	if a.resolver != nil {
		a.resolver.serve()
	}
}

// Leave gives all of it back, after the container's end. The kernel takes the cables away with the container's network
// namespace, and nobody waits for that.
func (a *Attachment) Leave() error {
	if a.container == "" {
		return nil
	}
	return a.store.change(a.leave)
}

func (a *Attachment) leave() (err error) {
	if a.unkept != nil {
		a.unkept()
	}
	a.ear.close()
	err = a.unlisten()
	if a.resolver != nil {
		a.resolver.close()
	}
	endpoints, readErr := a.store.Of(a.container) // it may have been connected to more, or disconnected
	err = errors.Join(err, readErr)
	for _, e := range endpoints {
		err = errors.Join(err, a.store.release(e))
	}
	return err
}
