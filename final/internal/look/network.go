//go:build linux

package look

import (
	"cmp"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"gocker/final/internal/containers"
	"gocker/final/internal/networks"
)

// A NetworkInspection is what "docker network inspect" tells. It is not docker's type: a template shows the unset addresses of
// that as "invalid IP".
type NetworkInspection struct {
	Name                          string
	ID                            string `json:"Id"`
	Created                       time.Time
	Scope, Driver                 string
	EnableIPv4, EnableIPv6        bool
	IPAM                          ipam
	Internal, Attachable, Ingress bool
	ConfigFrom                    struct{ Network string }
	ConfigOnly                    bool
	Containers                    map[string]member // by their ids
	Options, Labels               map[string]string
}

type (
	ipam struct {
		Driver  string
		Options map[string]string
		Config  []ipamConfig
	}
	ipamConfig struct {
		Subnet             string
		IPRange            string                `json:",omitempty"`
		Gateway            string                `json:",omitempty"`
		AuxiliaryAddresses map[string]netip.Addr `json:",omitempty"`
	}
	member struct{ Name, EndpointID, MacAddress, IPv4Address, IPv6Address string }
)

// Network tells all about a network.
func (look Look) Network(name string) (i NetworkInspection, err error) {
	if name == networks.Default {
		if err := look.Networks.MakeDefault(); err != nil {
			return i, err
		}
	}
	n, err := look.Networks.FindAny(name)
	if err != nil {
		return i, err
	}
	i = NetworkInspection{
		Name: n.Name, ID: n.ID, Created: n.Created, Scope: "local", Driver: n.Driver(), EnableIPv4: n.Driver() == "bridge", EnableIPv6: n.IPv6,
		IPAM: ipam{Driver: "default", Config: []ipamConfig{}}, Internal: n.Internal, Containers: map[string]member{},
		Options: map[string]string{}, Labels: map[string]string{},
	}
	for _, s := range n.Subnets {
		config := ipamConfig{Subnet: s.Subnet.String(), Gateway: text(s.Gateway), AuxiliaryAddresses: s.Aux}
		if s.Range.IsValid() {
			config.IPRange = s.Range.String()
		}
		i.IPAM.Config = append(i.IPAM.Config, config)
	}
	for option, value := range n.Options {
		i.Options[option] = value
	}
	for label, value := range n.Labels {
		i.Labels[label] = value
	}
	if n.Device != "" {
		i.Options[networks.OptName] = n.Device
	}
	on, err := look.Networks.On(n)
	if err != nil {
		return i, err
	}
	for _, e := range on {
		m := member{EndpointID: e.ID, MacAddress: e.MAC, IPv4Address: prefixOf(e, true), IPv6Address: prefixOf(e, false)}
		if s, err := look.Containers.Read(e.Container); err == nil { // else it is about to go
			m.Name = s.Name
		}
		i.Containers[cmp.Or(e.ContainerID, e.Container)] = m
	}
	return i, nil
}

// prefixOf is an endpoint's address of one kind, or "".
func prefixOf(e networks.Endpoint, v4 bool) string {
	for _, addr := range e.Addrs {
		if addr.Addr().Is4() == v4 {
			return addr.String()
		}
	}
	return ""
}

// text is an address, or "" where there is none.
func text(addr netip.Addr) string {
	if !addr.IsValid() {
		return ""
	}
	return addr.String()
}

// networksOf are the names of the networks that a container is on, or will be when it runs.
func networksOf(s containers.State, endpoints []networks.Endpoint) (names []string) {
	if mode := s.Options.Isolation.Network; mode != "" {
		return []string{mode}
	}
	for _, e := range endpoints {
		names = append(names, e.Network)
	}
	if !s.Active() {
		for _, want := range s.Options.Network.Wants {
			names = append(names, want.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// networkSettings has docker's fields.
type networkSettings struct {
	SandboxID  string
	SandboxKey string
	Ports      map[string][]portBinding
	addresses  // on the default network
	Networks   map[string]endpoint
}

type (
	endpoint struct {
		IPAMConfig     *ipamWish // what was asked for
		Links, Aliases []string
		DriverOpts     map[string]string
		GwPriority     int
		NetworkID      string
		addresses
		DNSNames []string
	}
	addresses struct {
		EndpointID, Gateway, IPAddress, MacAddress string
		IPPrefixLen                                int
		IPv6Gateway, GlobalIPv6Address             string
		GlobalIPv6PrefixLen                        int
	}
	ipamWish    struct{ IPv4Address, IPv6Address string }
	portBinding struct{ HostIp, HostPort string }
)

// inspectNetwork tells what a container has of networks, or if it does not run, what it wants.
func (look Look) inspectNetwork(s containers.State) (networkSettings, error) {
	n := networkSettings{Ports: map[string][]portBinding{}, Networks: map[string]endpoint{}}
	if s.Pid > 0 {
		n.SandboxID, n.SandboxKey = s.Whole(), filepath.Join("/proc", strconv.Itoa(s.Pid), "ns/net")
	}
	endpoints, err := look.Networks.Of(s.ID)
	if err != nil {
		return n, err
	}
	wants := s.Options.Network.Wants
	if mode := s.Options.Isolation.Network; mode != "" && !strings.Contains(mode, ":") { // not another container's
		wants = []networks.Want{{Name: mode}}
	}
	for _, want := range wants {
		known, _ := look.Networks.FindAny(want.Name) // it may be gone
		n.Networks[want.Name] = wanted(want, known.ID)
	}
	for _, e := range endpoints {
		shown := n.Networks[e.Network]
		if shown.addresses, err = look.addressesOf(e); err != nil {
			return n, err
		}
		shown.NetworkID, shown.DNSNames = e.NetworkID, unique(e.Names)
		shown.Links, shown.Aliases = e.Links, e.Aliases
		n.Networks[e.Network] = shown
		if e.Network == networks.Default {
			n.addresses = shown.addresses
		}
	}
	for _, p := range portsOf(s, endpoints) {
		bindings := n.Ports[p.String()]
		if p.Host.IsValid() {
			bindings = append(bindings, portBinding{p.Host.Addr().String(), strconv.Itoa(int(p.Host.Port()))})
		}
		n.Ports[p.String()] = bindings
	}
	return n, nil
}

// unique leaves out what is there already: a container whose hostname is its name.
func unique(names []string) (once []string) {
	for _, name := range names {
		if !slices.Contains(once, name) {
			once = append(once, name)
		}
	}
	return once
}

func wanted(want networks.Want, networkID string) endpoint {
	e := endpoint{Links: want.Links, Aliases: want.Aliases, DriverOpts: want.Options, GwPriority: want.Priority, NetworkID: networkID, addresses: addresses{MacAddress: want.MAC}}
	if want.IP.IsValid() || want.IP6.IsValid() {
		e.IPAMConfig = &ipamWish{text(want.IP), text(want.IP6)}
	}
	return e
}

// addressesOf are those of an endpoint. The gateways are the network's, also if the default route leads through another one.
func (look Look) addressesOf(e networks.Endpoint) (addresses, error) {
	a := addresses{EndpointID: e.ID, MacAddress: e.MAC}
	n, err := look.Networks.Find(e.NetworkID)
	if err != nil {
		return a, err
	}
	for _, addr := range e.Addrs {
		ip, bits, gateway := addr.Addr().String(), addr.Bits(), ""
		for _, s := range n.Subnets {
			if s.Subnet.Contains(addr.Addr()) && !n.Internal {
				gateway = s.Gateway.String()
			}
		}
		if addr.Addr().Is4() {
			a.IPAddress, a.IPPrefixLen, a.Gateway = ip, bits, gateway
		} else {
			a.GlobalIPv6Address, a.GlobalIPv6PrefixLen, a.IPv6Gateway = ip, bits, gateway
		}
	}
	return a, nil
}

// links are those of all networks, as docker has them for the default one.
func links(s containers.State) (all []string) {
	for _, want := range s.Options.Network.Wants {
		for _, link := range want.Links {
			name, alias, _ := strings.Cut(link, ":")
			all = append(all, "/"+name+":/"+s.Name+"/"+cmp.Or(alias, name))
		}
	}
	return all
}
