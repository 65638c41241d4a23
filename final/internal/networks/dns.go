//go:build linux

package networks

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"gocker/final/internal/firewall"
	"gocker/final/internal/resolver"
	"gocker/final/internal/rootless"
)

// ResolverAddr is where a container finds the resolver of its networks: docker's address.
const ResolverAddr = "127.0.0.11"

// resolverPort is where the resolver really is: a program in the container may want port 53 of all its addresses.
const resolverPort = 47053

// sockets are the resolver of one container, and its sockets, which are in the container's network namespace.
type sockets struct {
	store     Store
	container string
	needed    bool // see NeedsResolver
	server    resolver.Server
	udp       *net.UDPConn
	tcp       *net.TCPListener

	mu    sync.Mutex
	known map[string]*directory // of each network, by its id
}

// A directory is what one network's endpoints say, as it was read last.
type directory struct {
	read, changed time.Time // changed is that of the folder
	endpoints     []Endpoint
}

// newSockets makes the resolver of a container. It always has one, as it may be connected to another network later.
func (s Store) newSockets(r Request) *sockets {
	n := &sockets{store: s, container: r.Container, known: map[string]*directory{}}
	n.server = resolver.Server{Lookup: n.lookup, Reverse: n.reverse, Upstream: func() []netip.AddrPort { return n.upstream(r.DNS) }}
	n.needed = NeedsResolver(r.Wants, r.DNS)
	return n
}

// NeedsResolver tells whether gocker answers the questions for names of a container on these networks. On a network that a user
// has made, the host's resolvers do not know the container's neighbours. From the default network, the container does not reach a
// resolver at a loopback address of the host, or at one of IPv6. dns are resolvers that the user has chosen instead. For a user
// who is not root, gocker asks from where it is itself: that is shorter than the way out.
func NeedsResolver(wants []Want, dns []string) bool {
	if rootless.Apart() || slices.ContainsFunc(wants, func(w Want) bool { return w.Name != Default }) {
		return true
	}
	conf, _ := resolver.ReadConf("/etc/resolv.conf")
	return len(dns) == 0 && slices.ContainsFunc(conf.Servers, func(a netip.AddrPort) bool { return a.Addr().IsLoopback() || a.Addr().Is6() })
}

// upstream are the resolvers for all names but those of containers: those that the user has chosen, or the host's. From a
// network that nothing leads out of, no question goes out either.
func (n *sockets) upstream(chosen []string) (servers []netip.AddrPort) {
	own, err := n.store.Of(n.container)
	if err == nil && len(own) > 0 && !slices.ContainsFunc(own, func(e Endpoint) bool { return !e.Internal }) {
		return nil
	}
	for _, server := range chosen {
		if addr, err := netip.ParseAddr(server); err == nil {
			servers = append(servers, netip.AddrPortFrom(addr, 53))
		}
	}
	if len(chosen) == 0 {
		conf, _ := resolver.ReadConf("/etc/resolv.conf")
		servers = conf.Servers
	}
	return servers
}

// open makes the sockets in the network namespace of the calling thread.
func (n *sockets) open() (err error) {
	at := netip.AddrPortFrom(netip.MustParseAddr(ResolverAddr), resolverPort)
	if n.udp, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at)); err != nil {
		return err
	}
	if n.tcp, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at)); err != nil || !n.needed {
		return err
	}
	return divert()
}

// divert leads a container's questions for names to its resolver.
func divert() error {
	return firewall.Divert(netip.AddrPortFrom(netip.MustParseAddr(ResolverAddr), 53), resolverPort)
}

func (n *sockets) serve() { go n.server.Serve(n.udp, n.tcp) }

func (n *sockets) close() {
	if n.udp != nil {
		n.udp.Close()
	}
	if n.tcp != nil {
		n.tcp.Close()
	}
}

// lookup finds a name on the networks that users have made: on the default one nobody has names, as docker has it. With the
// network behind it, NAME.NETWORK, a name is also known.
func (n *sockets) lookup(name string) (addrs []netip.Addr, known bool) {
	for _, network := range n.neighbours() {
		name := strings.TrimSuffix(name, "."+strings.ToLower(network.own.Network))
		for _, link := range network.own.Links {
			if target, alias, _ := strings.Cut(link, ":"); strings.EqualFold(alias, name) {
				name = target
			}
		}
		for _, e := range network.all {
			if !slices.ContainsFunc(e.Names, func(other string) bool { return strings.EqualFold(other, name) }) {
				continue
			}
			known = true
			for _, addr := range e.Addrs {
				addrs = append(addrs, addr.Addr())
			}
		}
	}
	return addrs, known
}

func (n *sockets) reverse(addr netip.Addr) (found []string) {
	for _, network := range n.neighbours() {
		for _, e := range network.all {
			if slices.ContainsFunc(e.Addrs, func(a netip.Prefix) bool { return a.Addr() == addr }) {
				found = append(found, e.Names[0]+"."+network.own.Network)
			}
		}
	}
	return found
}

// A neighbourhood is one of the container's networks: its own place, and all.
type neighbourhood struct {
	own Endpoint
	all []Endpoint
}

// neighbours are all containers on the container's networks now, but for the default one. It reads a folder again only if the
// folder has changed.
func (n *sockets) neighbours() (found []neighbourhood) {
	n.mu.Lock()
	defer n.mu.Unlock()
	own, _ := n.store.Of(n.container)
	for _, e := range own {
		info, err := os.Stat(n.store.members(e.NetworkID))
		if err != nil || e.Network == Default {
			continue
		}
		d := n.known[e.NetworkID]
		// The clock of files has steps of some milliseconds: what was read in the same step may be old.
		const step = 20 * time.Millisecond
		if d == nil || !d.changed.Equal(info.ModTime()) || d.read.Sub(d.changed) < step {
			d = &directory{read: time.Now(), changed: info.ModTime()}
			if d.endpoints, err = n.store.On(Network{ID: e.NetworkID}); err != nil {
				continue
			}
			n.known[e.NetworkID] = d
		}
		found = append(found, neighbourhood{e, d.endpoints})
	}
	return found
}
