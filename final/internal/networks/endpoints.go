//go:build linux

package networks

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"gocker/final/internal/firewall"
	"gocker/final/internal/published"
	"gocker/final/internal/rootless"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step05-namespaces/network"
)

// ErrAddress says that a container cannot have the address that it asks for.
var ErrAddress = errors.New("the address cannot be had")

// A Want is one network that a container is to be on.
type Want struct {
	Name    string     // of the network, or its id
	Aliases []string   `json:",omitempty"` // more names that the others know the container by
	Links   []string   `json:",omitempty"` // names that only this container knows others by: "NAME:ALIAS"
	IP      netip.Addr `json:",omitzero"`  // that it is to have; the zero one: any that is free
	IP6     netip.Addr `json:",omitzero"`
	MAC     string     `json:",omitempty"`

	Options  map[string]string `json:",omitempty"` // see CheckOption
	Priority int               `json:",omitempty"` // the default route leads through the network with the largest
}

// Is tells whether this is the network that is wanted.
func (w Want) Is(n Network) bool { return w.Name == n.Name || strings.HasPrefix(n.ID, w.Name) }

// An Endpoint is a container's place on a network: {run}/networks/{network's id}/{container's id}.json.
type Endpoint struct {
	ID          string // 64 hex digits
	Network     string // the name
	NetworkID   string
	Container   string // the name of its folder
	ContainerID string `json:",omitempty"` // its whole id, which events tell
	Device      string // in the container: "eth0"
	Host        string // the other end of its cable, in the host
	MAC         string
	Addrs       []netip.Prefix // each with the subnet of its neighbours
	Routers     []netip.Addr   `json:",omitempty"` // where it sends what is for others
	Names       []string       `json:",omitempty"` // that the resolver knows it by
	Links       []string       `json:",omitempty"`
	Aliases     []string       `json:",omitempty"`
	Ports       []Port         `json:",omitempty"` // published through it
	Internal    bool           `json:",omitempty"` // the network is
	Priority    int            `json:",omitempty"` // see Want
	MTU         int            `json:",omitempty"`
	HostIP      netip.Addr     `json:",omitzero"`  // see Network.hostIP
	Sysctl      string         `json:",omitempty"` // see OptSysctls
}

// name is the container's, or its id if it has none.
func (e Endpoint) name() string { return append(slices.Clip(e.Names), e.Container)[0] }

// A Port of the host that leads to one of a container.
type Port struct {
	Host      netip.AddrPort // the unspecified address is all of its kind
	Protocol  string         // "tcp", "udp" or "sctp"
	Container uint16
}

var protocols = map[string]uint8{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}

// rules are what the firewall has for the endpoint's ports: those whose host and container have addresses of one kind.
func (e Endpoint) rules() (rules []firewall.Port) {
	if rootless.Apart() { // the host is elsewhere: its sockets pass on all that comes in
		return nil
	}
	for _, p := range e.Ports {
		for _, addr := range e.Addrs {
			if addr.Addr().Is4() == p.Host.Addr().Is4() {
				rules = append(rules, firewall.Port{Host: p.Host, Protocol: protocols[p.Protocol], To: netip.AddrPortFrom(addr.Addr(), p.Container)})
			}
		}
	}
	return rules
}

func (e Endpoint) cable(pid int, bridge string) network.Cable {
	mac, _ := net.ParseMAC(e.MAC)
	return network.Cable{
		Host: e.Host, Switch: bridge, Pid: pid, Device: e.Device, Addrs: e.Addrs, Routers: e.Routers, MAC: mac, MTU: e.MTU,
	}
}

// On lists the containers on a network, by their ids.
func (s Store) On(n Network) ([]Endpoint, error) { return readEndpoints(s.members(n.ID), "*.json") }

// Of lists the networks that a container is on, in the order of its devices.
func (s Store) Of(container string) ([]Endpoint, error) {
	endpoints, err := readEndpoints(s.running(), "*/"+container+".json")
	slices.SortFunc(endpoints, func(a, b Endpoint) int { return cmp.Compare(a.Device, b.Device) })
	return endpoints, err
}

// All lists the containers on any network, by their ids.
func (s Store) All() (map[string][]Endpoint, error) {
	endpoints, err := readEndpoints(s.running(), "*/*.json")
	of := map[string][]Endpoint{}
	slices.SortFunc(endpoints, func(a, b Endpoint) int { return cmp.Compare(a.Device, b.Device) })
	for _, e := range endpoints {
		of[e.Container] = append(of[e.Container], e)
	}
	return of, err
}

func readEndpoints(folder, pattern string) (endpoints []Endpoint, err error) {
	files, err := dirs.Glob(folder, pattern)
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		var e Endpoint
		switch err := dirs.ReadJSON(file, &e); {
		case errors.Is(err, os.ErrNotExist): // it ended a moment ago
		case err != nil:
			return nil, fmt.Errorf("read %s: %w", file, err)
		default:
			endpoints = append(endpoints, e)
		}
	}
	return endpoints, nil
}

func (s Store) endpointFile(e Endpoint) string {
	return filepath.Join(s.members(e.NetworkID), e.Container+".json")
}

// writeEndpoint makes the file in one piece: others read it without a lock.
func (s Store) writeEndpoint(e Endpoint) error {
	raw, err := json.Marshal(e)
	if err != nil {
		return err
	}
	file := s.endpointFile(e)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", raw, 0o600); err != nil {
		os.Remove(file + ".new")
		return err
	}
	return os.Rename(file+".new", file)
}

// join finds a container's place on a network, and makes the network ready. The caller holds the lock, and writes the place
// down before it gives the lock back.
func (s Store) join(container, id string, want Want, others []Endpoint) (e Endpoint, device string, err error) {
	n, err := s.Find(want.Name)
	switch {
	case errors.Is(err, ErrNoNetwork) && want.Name == Default:
		n, err = s.create(Network{Name: Default})
	case errors.Is(err, ErrNoNetwork): // it was there when the container was made
		err = advice.Add(err, "make it again: gocker network create %[1]s; or take the container off it: gocker network disconnect %[1]s %[2]s", want.Name, container)
	}
	if err != nil {
		return e, "", err
	}
	if slices.ContainsFunc(others, func(e Endpoint) bool { return e.NetworkID == n.ID }) {
		return e, "", fmt.Errorf("container %s is on network %s already", container, n.Name)
	}
	if err := s.up(&n); err != nil {
		return e, "", err
	}
	on, err := s.On(n)
	if err != nil {
		return e, "", err
	}
	random := make([]byte, 32)
	rand.Read(random)
	e = Endpoint{
		ID: hex.EncodeToString(random), Network: n.Name, NetworkID: n.ID, Container: container, ContainerID: id, Device: cmp.Or(want.Options[OptDevice], freeDevice(others)),
		Links: want.Links, Aliases: want.Aliases, Internal: n.Internal, Priority: want.Priority, MTU: n.MTU(), HostIP: n.hostIP(), Sysctl: want.Options[OptSysctls],
	}
	if slices.ContainsFunc(others, func(other Endpoint) bool { return other.Device == e.Device }) {
		return e, "", fmt.Errorf("network %s: the container has a device %s already", n.Name, e.Device)
	}
	e.Host = "veth" + e.ID[:11] // 15 characters: no name of a device is longer
	if err := e.address(n, want, on); err != nil {
		return e, "", err
	}
	return e, n.Device, nil
}

func freeDevice(others []Endpoint) string {
	for i := 0; ; i++ {
		name := fmt.Sprint("eth", i)
		if !slices.ContainsFunc(others, func(e Endpoint) bool { return e.Device == name }) {
			return name
		}
	}
}

// address gives an endpoint its addresses. on are the others on the network.
func (e *Endpoint) address(n Network, want Want, on []Endpoint) error {
	used := map[netip.Addr]bool{}
	for _, other := range on {
		for _, addr := range other.Addrs {
			used[addr.Addr()] = true
		}
	}
	for _, subnet := range n.Subnets {
		fixed := want.IP
		if subnet.Subnet.Addr().Is6() {
			fixed = want.IP6
		}
		addr, err := subnet.give(fixed, used)
		if err != nil {
			return fmt.Errorf("network %s: %w", n.Name, err)
		}
		e.Addrs = append(e.Addrs, netip.PrefixFrom(addr, subnet.Subnet.Bits()))
		if !n.Internal {
			e.Routers = append(e.Routers, subnet.Gateway)
		}
	}
	if want.IP6.IsValid() && !n.IPv6 {
		return fmt.Errorf("network %s: %w: %s: the network has no IPv6", n.Name, ErrAddress, want.IP6)
	}
	// A neighbour remembers for a while which hardware address belongs to an IP address. So gocker makes the one of the other: the
	// next container with this IP address has the same.
	ip := e.Addrs[0].Addr().AsSlice()
	e.MAC = cmp.Or(want.MAC, net.HardwareAddr(append([]byte{0x02, 0x42}, ip[len(ip)-4:]...)).String())
	for _, other := range on {
		if strings.EqualFold(other.MAC, e.MAC) {
			return fmt.Errorf("network %s: %w: container %s has the hardware address %s", n.Name, ErrAddress, other.Container, e.MAC)
		}
	}
	return nil
}

// give is an address of the subnet that nobody has: fixed, if that is one.
func (s Subnet) give(fixed netip.Addr, used map[netip.Addr]bool) (netip.Addr, error) {
	if !fixed.IsValid() {
		of := s.Subnet
		if s.Range.IsValid() {
			of = s.Range.Masked()
		}
		if addr := s.first(of, used); addr.IsValid() {
			return addr, nil
		}
		return fixed, advice.Add(fmt.Errorf("%w: all of %s are used", ErrAddress, of), "remove a container, or make a larger network")
	}
	switch {
	case !s.has(fixed):
		return fixed, advice.Add(fmt.Errorf("%w: %s is not in %s", ErrAddress, fixed, s.Subnet), "choose one of that subnet, or make a network with another: gocker network create --subnet")
	case fixed == s.Gateway || s.isAux(fixed):
		return fixed, fmt.Errorf("%w: %s is the gateway's, or kept for somebody else", ErrAddress, fixed)
	case used[fixed]:
		return fixed, fmt.Errorf("%w: another container has %s", ErrAddress, fixed)
	}
	return fixed, nil
}

// Release takes a container off all networks: ports, cables, addresses. What is gone already is no error.
func (s Store) Release(container string) error {
	return s.each(container, func(e Endpoint) error { return errors.Join(e.cable(0, "").Pull(), s.release(e)) })
}

// each calls do for all networks that a container is on, under the lock.
func (s Store) each(container string, do func(Endpoint) error) error {
	// Most containers that are looked at are on none: then there is nothing to wait for.
	if endpoints, err := s.Of(container); len(endpoints) == 0 {
		return err
	}
	return s.change(func() error {
		endpoints, err := s.Of(container)
		for _, e := range endpoints {
			err = errors.Join(err, do(e))
		}
		return err
	})
}

// ReleaseStrays releases containers that are no more: somebody may have removed a folder by hand.
func (s Store) ReleaseStrays(isThere func(container string) bool) error {
	files, err := dirs.Glob(s.running(), "*/*.json")
	for _, file := range files {
		if container := strings.TrimSuffix(filepath.Base(file), ".json"); !isThere(container) {
			err = errors.Join(err, s.Release(container))
		}
	}
	return err
}

// release takes away one endpoint. The caller holds the lock.
func (s Store) release(e Endpoint) error {
	err := s.unpublish(e, func() error { return os.Remove(s.endpointFile(e)) })
	if err == nil {
		s.noteOn("disconnect", e)
	}
	return err
}

// unpublish takes away an endpoint's ports. write has its file say so. The caller holds the lock.
func (s Store) unpublish(e Endpoint, write func() error) error {
	err := s.table().Unpublish(e.rules())
	areGone := isGone(err)
	if err != nil && !areGone {
		return err
	}
	if slices.ContainsFunc(e.Ports, func(p Port) bool { return p.Protocol == "udp" }) {
		var addrs []netip.Addr
		for _, addr := range e.Addrs {
			addrs = append(addrs, addr.Addr())
		}
		if err := published.Forget(nil, addrs...); err != nil { // else what clients still send goes to the next container that has them
			return err
		}
	}
	if err := write(); err != nil {
		return err
	}
	if areGone { // some of them, or all rules
		return s.writeRules()
	}
	return nil
}
