//go:build linux

package firewall

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"
)

// Text is what Write does, for nft -f. TestTheTextMakesTheSameTable holds the two together.
func (t Table) Text(networks []Network, ports []Port) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("table inet %s {", t)
	var bridges []string
	for _, n := range networks {
		bridges = append(bridges, fmt.Sprintf("%q", n.Bridge))
	}
	line("set bridges { type ifname; elements = { %s }; }", strings.Join(bridges, ", "))
	elsewhere, output := []string{}, []string{}
	for _, m := range maps(t.table()) {
		address, family, loopback := "ipv4_addr", "ip", "ip daddr != 127.0.0.0/8"
		if m.v6 {
			address, family, loopback = "ipv6_addr", "ip6", "ip6 daddr != ::1"
		}
		key, lookup := "inet_proto . inet_service", "meta l4proto . th dport"
		if m.at {
			key, lookup = address+" . "+key, family+" daddr . "+lookup
		}
		elements := ""
		if all := m.text(ports); len(all) > 0 {
			elements = fmt.Sprintf(" elements = { %s };", strings.Join(all, ", "))
		}
		line("map %s { type %s : %s . inet_service;%s }", m.Name, key, address, elements)
		dnat := fmt.Sprintf("fib daddr type local dnat %s to %s map @%s", family, lookup, m.Name)
		of := fmt.Sprintf("meta nfproto ipv%c ", m.Name[len("ports")])
		elsewhere = append(elsewhere, "iifname != @bridges "+of+dnat)
		output = append(output, of+loopback+" "+dnat)
	}
	line("chain prerouting { type nat hook prerouting priority dstnat;\n%s\n}", strings.Join(elsewhere, "\n"))
	line("chain output { type nat hook output priority -100;\n%s\n}", strings.Join(output, "\n"))
	line("chain postrouting { type nat hook postrouting priority srcnat;")
	for _, n := range networks {
		for _, subnet := range n.Subnets {
			if n.Masquerade && !n.Internal {
				line("%s saddr %s oifname != %q counter masquerade", kind(subnet.Addr()), subnet, n.Bridge)
			}
		}
	}
	line("}\nchain forward { type filter hook forward priority filter;")
	line("oifname @bridges ct state established,related accept\noifname @bridges ct status dnat accept")
	for _, n := range networks {
		verdict := "accept"
		if n.Apart {
			verdict = "drop"
		}
		line("iifname %[1]q oifname %[1]q %[2]s", n.Bridge, verdict)
		if n.Internal {
			line("iifname %q drop", n.Bridge)
		}
	}
	line("oifname @bridges drop\n}\n}")
	return b.String()
}

// text are the elements that belong into this map.
func (m portMap) text(ports []Port) (elements []string) {
	for _, p := range ports {
		if !m.has(p) {
			continue
		}
		at := ""
		if m.at {
			at = p.Host.Addr().String() + " . "
		}
		protocol := map[uint8]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_SCTP: "sctp"}[p.Protocol]
		elements = append(elements, fmt.Sprintf("%s%s . %d : %s . %d", at, protocol, p.Host.Port(), p.To.Addr(), p.To.Port()))
	}
	return elements
}

func kind(addr netip.Addr) string {
	if addr.Is6() {
		return "ip6"
	}
	return "ip"
}
