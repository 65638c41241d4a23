//go:build linux

package networks

import (
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/vishvananda/netlink"

	"gocker/final/internal/names"
	"gocker/final/internal/rootless"
	"gocker/step01-pull/shared/advice"
	"gocker/step04-overlay/check"
)

// ErrSubnet says that a subnet, or an address in it, cannot be.
var ErrSubnet = errors.New("bad subnet")

// validate finds what is wrong with a network that is to be made, before anything is done.
func validate(n Network) error {
	if !names.Valid(n.Name) {
		return advice.Add(fmt.Errorf("%q is no name for a network", n.Name), names.Rule)
	}
	if slices.Contains([]string{"none", "host", "default", "container", "ns"}, n.Name) {
		return fmt.Errorf("%q is no name for a network: it means something else for run --network", n.Name)
	}
	for _, option := range slices.Sorted(maps.Keys(n.Options)) {
		var err error
		value := n.Options[option]
		switch option {
		case OptName:
			if badDevice(value) {
				err = errors.New("a device has 1 to 15 characters, and none of \"/ :%\" is in it")
			}
		case OptMTU:
			if mtu, parseErr := strconv.Atoi(value); parseErr != nil || mtu < 68 || mtu > 65535 {
				err = errors.New("it is a number from 68 to 65535")
			}
		case OptICC, OptMasquerade:
			if value != "true" && value != "false" {
				err = errors.New("it is true or false")
			}
		case OptHostIP:
			if addr, parseErr := netip.ParseAddr(value); parseErr != nil || !addr.Is4() {
				err = errors.New("it is an IPv4 address of the host")
			}
		default:
			err = fmt.Errorf("there are %s, %s, %s, %s and %s", OptName, OptMTU, OptICC, OptMasquerade, OptHostIP)
		}
		if err != nil {
			return fmt.Errorf("--opt %s=%s: %w", option, value, err)
		}
	}
	var v4, v6 int
	for i, s := range n.Subnets {
		if err := s.check(); err != nil {
			return err
		}
		for _, other := range n.Subnets[:i] {
			if other.Subnet.Overlaps(s.Subnet) {
				return fmt.Errorf("%w: %s and %s overlap", ErrSubnet, other.Subnet, s.Subnet)
			}
		}
		if s.Subnet.Addr().Is6() {
			v6++
		} else {
			v4++
		}
	}
	switch {
	case v4 > 1 || v6 > 1:
		return fmt.Errorf("%w: a network has at most one of IPv4 and one of IPv6", ErrSubnet)
	case v6 > 0 && !n.IPv6:
		return advice.Add(fmt.Errorf("%w: %s is of IPv6", ErrSubnet, n.Subnets[0].Subnet), "add --ipv6")
	}
	return nil
}

// check finds what is wrong with one.
func (s Subnet) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s: %s", ErrSubnet, s.Subnet, fmt.Sprintf(format, args...))
	}
	bits := s.Subnet.Addr().BitLen()
	switch {
	case s.Subnet != s.Subnet.Masked():
		return bad("it begins at %s", s.Subnet.Masked())
	case bits-s.Subnet.Bits() < 2:
		return bad("it has no room for a gateway and a container: it needs at least /%d", bits-2)
	case s.Subnet.Addr().IsLoopback() || s.Subnet.Addr().IsMulticast() || s.Subnet.Addr().IsUnspecified():
		return bad("containers cannot have these addresses")
	case s.Range.IsValid() && (!s.Subnet.Contains(s.Range.Addr()) || s.Range.Bits() < s.Subnet.Bits()):
		return bad("the range %s is not in it", s.Range)
	case s.Gateway.IsValid() && !s.has(s.Gateway):
		return bad("the gateway %s is not in it", s.Gateway)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Aux)) {
		addr := s.Aux[name]
		if !s.Subnet.Contains(addr) {
			return bad("the address %s of %s is not in it", addr, name)
		}
	}
	return nil
}

// has tells whether a machine may have an address: the first and the last of IPv4 are nobody's.
func (s Subnet) has(addr netip.Addr) bool {
	return s.Subnet.Contains(addr) && addr != s.Subnet.Addr() && addr != broadcast(s.Subnet)
}

// broadcast is the last address of an IPv4 subnet. IPv6 has none.
func broadcast(p netip.Prefix) netip.Addr {
	if p.Addr().Is6() {
		return netip.Addr{}
	}
	last := p.Addr().As4()
	for i, b := range net.CIDRMask(p.Bits(), 32) {
		last[i] |= ^b
	}
	return netip.AddrFrom4(last)
}

// chooseSubnets completes the subnets that the user has asked for, and chooses those that were left open.
func (s Store) chooseSubnets(n Network) ([]Subnet, error) {
	taken, err := s.taken()
	if err != nil {
		return nil, err
	}
	chosen := slices.Clone(n.Subnets)
	for _, subnet := range chosen {
		for _, by := range slices.Sorted(maps.Keys(taken)) {
			if prefix := taken[by]; prefix.Overlaps(subnet.Subnet) {
				return nil, advice.Add(fmt.Errorf("%w: %s overlaps %s, which is %s", ErrSubnet, subnet.Subnet, prefix, by), "choose another, or none: then one that is free is found")
			}
		}
	}
	has := func(v6 bool) bool {
		return slices.ContainsFunc(chosen, func(s Subnet) bool { return s.Subnet.Addr().Is6() == v6 })
	}
	if !has(false) {
		subnet, err := freeSubnet(taken)
		if err != nil {
			return nil, err
		}
		chosen = append([]Subnet{{Subnet: subnet}}, chosen...)
	}
	if n.IPv6 && !has(true) {
		chosen = append(chosen, Subnet{Subnet: localSubnet()})
	}
	slices.SortFunc(chosen, func(a, b Subnet) int { return a.Subnet.Addr().Compare(b.Subnet.Addr()) })
	for i, subnet := range chosen {
		if !subnet.Gateway.IsValid() {
			first := subnet.Subnet
			if subnet.Range.IsValid() {
				first = subnet.Range.Masked()
			}
			if chosen[i].Gateway = subnet.first(first, nil); !chosen[i].Gateway.IsValid() {
				return nil, fmt.Errorf("%w: %s: no address is left for the gateway", ErrSubnet, first)
			}
		}
	}
	return chosen, nil
}

// first is the first address in a range that a machine may have, and nobody has; the zero one if there is none.
func (s Subnet) first(of netip.Prefix, used map[netip.Addr]bool) netip.Addr {
	for addr := of.Addr(); of.Contains(addr); addr = addr.Next() {
		if s.has(addr) && !s.isAux(addr) && addr != s.Gateway && !used[addr] {
			return addr
		}
	}
	return netip.Addr{}
}

func (s Subnet) isAux(addr netip.Addr) bool {
	for _, aux := range s.Aux {
		if aux == addr {
			return true
		}
	}
	return false
}

// freeSubnet is the first of docker's that nobody has.
func freeSubnet(taken map[string]netip.Prefix) (netip.Prefix, error) {
	var pool []netip.Prefix
	for i := byte(17); i < 32; i++ {
		pool = append(pool, netip.PrefixFrom(netip.AddrFrom4([4]byte{172, i, 0, 0}), 16))
	}
	for i := 0; i < 256; i += 16 {
		pool = append(pool, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(i), 0}), 20))
	}
	for _, candidate := range pool {
		isFree := true
		for _, prefix := range taken {
			isFree = isFree && !prefix.Overlaps(candidate)
		}
		if isFree {
			return candidate, nil
		}
	}
	return netip.Prefix{}, advice.Add(fmt.Errorf("%w: all of 172.17.0.0/16 to 172.31.0.0/16, and 192.168.0.0/16, are taken", ErrSubnet), "name one that is free: gocker network create --subnet 10.90.0.0/24 NAME; networks that nobody uses go with gocker network prune")
}

// localSubnet is one for this network only, among the unique local addresses: see RFC 4193.
func localSubnet() netip.Prefix {
	addr := [16]byte{0: 0xfd}
	rand.Read(addr[1:6])
	return netip.PrefixFrom(netip.AddrFrom16(addr), 64)
}

// taken are the subnets that nobody else may have: by what has them.
func (s Store) taken() (map[string]netip.Prefix, error) {
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	taken, err := ofAll("")
	for _, n := range all {
		for _, subnet := range n.Subnets {
			taken["network "+n.Name+" "+subnet.Subnet.String()] = subnet.Subnet
		}
	}
	return taken, err
}

// ofAll are those of ofHost. If networks are apart, they overlap neither what is there, nor what is to be reached through the host.
func ofAll(except string) (map[string]netip.Prefix, error) {
	taken, err := ofHost(except)
	if !rootless.Apart() || err != nil {
		return taken, err
	}
	outside, err := check.Elsewhere(func() (map[string]netip.Prefix, error) { return ofHost(except) })()
	maps.Copy(taken, outside)
	return taken, err
}

// ofHost are the routes and addresses of the host, without those of one device. The default route leads to all the rest, and
// so does not count.
func ofHost(except string) (map[string]netip.Prefix, error) {
	taken := map[string]netip.Prefix{}
	links, err := whole(netlink.LinkList)
	if err != nil {
		return nil, err
	}
	device := map[int]string{}
	for _, link := range links {
		device[link.Attrs().Index] = link.Attrs().Name
	}
	add := func(what string, index int, ip *net.IPNet) {
		if ip == nil || device[index] == except && except != "" {
			return
		}
		addr, _ := netip.AddrFromSlice(ip.IP)
		ones, _ := ip.Mask.Size()
		prefix := netip.PrefixFrom(addr.Unmap(), ones)
		if ones > 0 && !addr.IsLinkLocalUnicast() && !addr.IsMulticast() {
			taken[fmt.Sprintf("%s of the host through %s, %s", what, device[index], prefix)] = prefix.Masked()
		}
	}
	routes, err := whole(func() ([]netlink.Route, error) { return netlink.RouteList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, err
	}
	for _, route := range routes {
		add("a route", route.LinkIndex, route.Dst)
	}
	addrs, err := whole(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, err
	}
	for _, addr := range addrs {
		add("an address", addr.LinkIndex, addr.IPNet)
	}
	return taken, nil
}

// whole asks again for a list that something was changed in while it was read.
func whole[T any](list func() ([]T, error)) (all []T, err error) {
	for range 100 {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

// hostLacks is an error if the host has got a route or an address, since a network was made, that its subnets overlap.
func hostLacks(n Network) error {
	taken, err := ofAll(n.Device)
	for _, subnet := range n.Subnets {
		for _, by := range slices.Sorted(maps.Keys(taken)) {
			if prefix := taken[by]; prefix.Overlaps(subnet.Subnet) {
				return advice.Add(fmt.Errorf("network %s: %w: %s overlaps %s", n.Name, ErrSubnet, subnet.Subnet, by), "make the network with another subnet: gocker network create --subnet")
			}
		}
	}
	return err
}
