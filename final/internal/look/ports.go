//go:build linux

package look

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-connections/nat"
	"github.com/moby/moby/api/types/network"

	"gocker/final/internal/containers"
	"gocker/final/internal/networks"
)

// A Port is one of a running container. A port of the host leads to it, or it is only exposed.
type Port struct {
	Container uint16
	Protocol  string
	Host      netip.AddrPort // zero: the port is only exposed
}

// String is the container's port, "80/tcp".
func (p Port) String() string { return strconv.Itoa(int(p.Container)) + "/" + p.Protocol }

// portsOf are the ports of a container in docker's order.
func portsOf(s containers.State, endpoints []networks.Endpoint) (ports []Port) {
	if !s.Active() || s.Options.Isolation.Network != "" {
		return nil
	}
	shown := map[string]bool{}
	add := func(p Port) {
		ports = append(ports, p)
		shown[p.String()] = true
	}
	for _, e := range endpoints {
		for _, p := range e.Ports {
			add(Port{p.Container, p.Protocol, p.Host})
		}
	}
	// A port that no network publishes is only exposed.
	for _, p := range s.Options.Network.Publish {
		if exposed := (Port{Container: p.Port, Protocol: p.Protocol}); !shown[exposed.String()] {
			add(exposed)
		}
	}
	for _, spec := range s.Options.Network.Expose {
		number, protocol, _ := strings.Cut(spec, "/")
		port, _ := strconv.ParseUint(number, 10, 16)
		if !shown[spec] {
			add(Port{Container: uint16(port), Protocol: protocol})
		}
	}
	slices.SortFunc(ports, func(a, b Port) int {
		return cmp.Or(cmp.Compare(a.Container, b.Container), a.Host.Compare(b.Host), cmp.Compare(a.Protocol, b.Protocol))
	})
	return ports
}

// Ports lists the ports of a container, if it runs.
func (look Look) Ports(name string) ([]Port, error) {
	s, err := look.Containers.Find(name)
	if err != nil {
		return nil, err
	}
	endpoints, err := look.Networks.Of(s.ID)
	return portsOf(s, endpoints), err
}

// bindings are the ports that the user wants to be published, as docker tells them.
func bindings(wanted []networks.Publish) network.PortMap {
	all := network.PortMap{}
	for _, p := range wanted {
		port, ok := network.PortFrom(p.Port, network.IPProtocol(p.Protocol))
		if !ok {
			continue
		}
		binding := network.PortBinding{HostIP: p.IP}
		if p.First > 0 {
			binding.HostPort = strconv.Itoa(int(p.First))
		}
		if p.Last > p.First {
			binding.HostPort += "-" + strconv.Itoa(int(p.Last))
		}
		all[port] = append(all[port], binding)
	}
	return all
}

// hasPort reads a filter: PORT[-LAST][/PROTOCOL], of the host with publish, else of the container.
func hasPort(key, value string) (func(Listed) bool, error) {
	numbers, protocol, _ := strings.Cut(value, "/")
	first, last, err := nat.ParsePortRange(numbers)
	if err != nil {
		return nil, errors.New("want PORT[-PORT][/tcp|udp|sctp]")
	}
	return func(l Listed) bool {
		return slices.ContainsFunc(l.Ports, func(p Port) bool {
			number := uint64(p.Container)
			if key == "publish" {
				number = uint64(p.Host.Port())
			}
			return first <= number && number <= last && p.Protocol == cmp.Or(protocol, "tcp")
		})
	}, nil
}
