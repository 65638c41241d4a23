//go:build linux

package networks

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"gocker/final/internal/firewall"
	"gocker/final/internal/published"
	"gocker/step01-pull/shared/advice"
	"gocker/step04-overlay/check"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/network"
)

// A Request is what a container wants of networks.
type Request struct {
	Container string   // the id
	Names     []string // that others know it by, on networks that the user has made
	Wants     []Want
	Publish   []Publish
	DNS       []string // in place of the host's resolvers
}

// A Publish is a port of the container that is to be reached through one of the host.
type Publish struct {
	IP          netip.Addr `json:",omitzero"` // of the host; the zero one: all
	First, Last uint16     // ports of the host, of which one is taken; 0: any that is free
	Port        uint16     // of the container
	Protocol    string
}

// An Attachment is a container's places on networks while it runs, and what the process that holds it serves there.
type Attachment struct {
	Endpoints []Endpoint

	store     Store
	container string
	bridges   map[string]string    // the device of each network, by the network's id
	listeners *published.Listeners // nil if it has no ports
	resolver  *sockets
}

// Attach gives a container its places on networks, and takes its ports of the host. Nobody else gets them until Leave. If it
// fails, nothing is left.
func (s Store) Attach(r Request) (_ *Attachment, err error) {
	lock, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	a := &Attachment{store: s, container: r.Container, bridges: map[string]string{}, resolver: s.newSockets(r)}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.leave())
		}
	}()
	for _, want := range r.Wants {
		e, bridge, err := s.join(r.Container, want, a.Endpoints)
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
		first := slices.IndexFunc(a.Endpoints, func(e Endpoint) bool { return !e.Internal })
		if first < 0 {
			return nil, advice.Add(errors.New("publish ports: none of the container's networks leads out"), "leave out -p, or add a network that was made without --internal")
		}
		if err := a.listen(&a.Endpoints[first], r.Publish); err != nil {
			return nil, err
		}
		return a, s.writeEndpoint(a.Endpoints[first])
	}
	return a, nil
}

// Obstacles are what the user should know of the host before a container is connected: what its firewall drops or does not see,
// and that it becomes a router.
func (s Store) Obstacles(r Request) (found []error) {
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

// listen takes the ports of the host.
func (a *Attachment) listen(e *Endpoint, wanted []Publish) (err error) {
	var groups [][]published.Port
	for _, p := range wanted {
		groups = append(groups, p.at(e.Addrs))
	}
	if a.listeners, err = published.Listen(groups...); err != nil {
		return a.store.nameHolder(err)
	}
	for _, p := range a.listeners.Ports() {
		e.Ports = append(e.Ports, Port{Host: p.Host, Protocol: p.Protocol, Container: p.To.Port()})
	}
	return nil
}

// nameHolder says which container has a port that is taken, if one has it.
func (s Store) nameHolder(err error) error {
	taken, ok := errors.AsType[*published.Taken](err)
	if !ok {
		return err
	}
	endpoints, _ := readEndpoints(s.running(), "*/*.json") // what cannot be read now does not hide the error
	for _, e := range endpoints {
		for _, p := range e.Ports {
			if p.Host.Port() == taken.Port.Host.Port() && p.Protocol == taken.Port.Protocol {
				return advice.Add(fmt.Errorf("port %d/%s of the host is taken: by container %s", p.Host.Port(), p.Protocol, e.Names[0]),
					"choose another port of the host, or stop that container: gocker stop %s", e.Names[0])
			}
		}
	}
	return err
}

// at are the ports of the host that lead to the container's, of both kinds of addresses. What has no address of a kind is
// reached by the other.
func (p Publish) at(addrs []netip.Prefix) (ports []published.Port) {
	hosts := []netip.Addr{p.IP}
	if !p.IP.IsValid() {
		hosts = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	for _, host := range hosts {
		to := addrs[0].Addr()
		for _, addr := range addrs {
			if addr.Addr().Is4() == host.Is4() {
				to = addr.Addr()
			}
		}
		ports = append(ports, published.Port{Host: netip.AddrPortFrom(host, p.First), Last: p.Last, Protocol: p.Protocol, To: netip.AddrPortFrom(to, p.Port)})
	}
	return ports
}

// NeedsResolver tells whether the container's questions for names are answered by gocker: by the resolvers of the host it would
// not find its neighbours, and those that the host has at a loopback address it would not find itself.
func (a *Attachment) NeedsResolver() bool { return a.resolver != nil && a.resolver.needed }

// Part lays the cables while the container's file systems are mounted: each of the two waits for the kernel a while.
func (a *Attachment) Part() namespaces.Part {
	laid := func() (any, error) { return nil, nil }
	return namespaces.Part{
		Unshared: func() error {
			thread := unix.Gettid() // it is in the container's network namespace, and the container has no process yet
			laid = check.Elsewhere(func() (any, error) { return nil, a.lay(thread) })
			return nil
		},
		Inside: func() error {
			_, err := laid()
			return err
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
	var ports []firewall.Port
	for _, e := range a.Endpoints {
		if err := e.cable(pid, a.bridges[e.NetworkID]).Lay(); err != nil {
			return fmt.Errorf("network %s: %w", e.Network, err)
		}
		ports = append(ports, e.rules()...)
	}
	if len(ports) == 0 {
		return nil
	}
	if err := a.store.table().Publish(ports); err != nil {
		return err
	}
	return published.Forget(a.listeners.Ports())
}

// Serve answers on the ports, and questions for names, until Leave.
func (a *Attachment) Serve() {
	if a.listeners != nil {
		a.listeners.Serve()
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
	lock, err := a.store.lock()
	if err != nil {
		return err
	}
	defer lock.Close()
	return a.leave()
}

func (a *Attachment) leave() (err error) {
	if a.listeners != nil {
		err = a.listeners.Close()
	}
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
