//go:build linux

package published

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Forget makes the kernel forget connections that are not true any more. The rules of nftables see the first packet of a
// connection only. UDP has connections in the kernel's sight, too: while a client goes on, its packets go where its first one
// went. So the kernel has to forget
//
//   - what comes by UDP to one of the ports: the port was not published yet, or led to another container.
//     Call it after the rules are made. For TCP the client has to begin anew, and then the rules see it.
//   - everything from and to one of the addresses: a former container had it. Call it when the container has ended.
func Forget(ports []Port, addrs ...netip.Addr) error {
	f, err := newFlows(ports, addrs)
	if err != nil {
		return err
	}
	for _, family := range []netlink.InetFamily{unix.AF_INET, unix.AF_INET6} {
		if !f.has(family == unix.AF_INET6) {
			continue // to look at all connections takes the kernel milliseconds, be they ever so few
		}
		if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, family, f); err != nil {
			return fmt.Errorf("forget connections to %v %v: %w", ports, addrs, err)
		}
	}
	return nil
}

// flows are the connections to forget.
type flows struct {
	host  map[netip.Addr]bool     // the addresses of the host
	ports map[netip.AddrPort]bool // of UDP
	addrs map[netip.Addr]bool
}

func newFlows(ports []Port, addrs []netip.Addr) (flows, error) {
	f := flows{map[netip.Addr]bool{}, map[netip.AddrPort]bool{}, map[netip.Addr]bool{}}
	for _, p := range ports {
		if p.Protocol == "udp" {
			f.ports[p.Host] = true
		}
	}
	for _, addr := range addrs {
		f.addrs[addr] = true
	}
	host, err := net.InterfaceAddrs()
	if err != nil {
		return f, fmt.Errorf("the host's addresses: %w", err)
	}
	for _, addr := range host {
		if prefix, err := netip.ParsePrefix(addr.String()); err == nil && !prefix.Addr().IsLoopback() { // the rules do not see that
			f.host[prefix.Addr()] = true
		}
	}
	return f, nil
}

// has tells whether there may be one of IPv6, or of IPv4.
func (f flows) has(v6 bool) bool {
	for port := range f.ports {
		if port.Addr().Is6() == v6 {
			return true
		}
	}
	for addr := range f.addrs {
		if addr.Is6() == v6 {
			return true
		}
	}
	return false
}

// MatchConntrackFlow is for package netlink. A connection has two tuples: what the client sends, and what is sent to it. They
// have different addresses if the rules changed one.
func (f flows) MatchConntrackFlow(c *netlink.ConntrackFlow) bool {
	isOne := func(ip net.IP) bool { return f.addrs[address(ip)] }
	if slices.ContainsFunc([]net.IP{c.Forward.SrcIP, c.Forward.DstIP, c.Reverse.SrcIP, c.Reverse.DstIP}, isOne) {
		return true
	}
	to := address(c.Forward.DstIP)
	if c.Forward.Protocol != unix.IPPROTO_UDP || !f.host[to] { // port 53 of another machine is not ours
		return false
	}
	all := netip.IPv4Unspecified()
	if to.Is6() {
		all = netip.IPv6Unspecified()
	}
	return f.ports[netip.AddrPortFrom(to, c.Forward.DstPort)] || f.ports[netip.AddrPortFrom(all, c.Forward.DstPort)]
}

func address(ip net.IP) netip.Addr {
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}
