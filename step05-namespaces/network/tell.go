//go:build linux

package network

import (
	"fmt"
	"net/netip"

	"gocker/step04-overlay/story"
	"gocker/step05-namespaces/namespaces"
)

// TellMake tells what Make does.
func (b Bridge) TellMake(tell story.Story) {
	tell.Run(story.Host, "a switch", "ip", "link", "add", b.Name, "type", "bridge")
	tell.Run(story.Host, "with an address in it, the host itself is plugged in", "ip", "addr", "add", b.Addr.String(), "dev", b.Name)
	tell.Run(story.Host, "a device begins down", "ip", "link", "set", b.Name, "up")
	tell.Write(story.Host, "the host is a router", "/proc/sys/net/ipv4/ip_forward", 1)
	table := b.table().Name
	tell.Run(story.Host, "a table of its own", "nft", "add", "table", "ip", table)
	tell.Run(story.Host, "a chain that sees each new connection on its way out",
		"nft", fmt.Sprintf("add chain ip %s postrouting { type nat hook postrouting priority srcnat; }", table))
	tell.Run(story.Host, "what comes from the subnet and leaves it gets the host's address",
		"nft", fmt.Sprintf("add rule ip %s postrouting ip saddr %s oifname != %q counter masquerade", table, b.Addr.Masked(), b.Name))
}

// TellCable is the part of a container that tells what Cable does.
func (b Bridge) TellCable(ip netip.Addr, tell story.Story) namespaces.Part {
	if tell == nil {
		return namespaces.Part{}
	}
	return namespaces.Part{Ready: func(*namespaces.Process) error {
		inside := `nsenter --target="$pid" --net ip `
		tell.Sh(story.Pivot, "a cable: one end in the switch, one in the container",
			"ip link add \"veth$pid\" master "+story.Quote(b.Name)+` type veth peer name eth0 netns "$pid"`)
		tell.Sh(story.Pivot, "both ends begin down", `ip link set "veth$pid" up`)
		tell.Sh(story.Pivot, "an address, and with it a route to the neighbours",
			inside+"addr add "+netip.PrefixFrom(ip, b.Addr.Bits()).String()+" dev eth0")
		tell.Sh(story.Pivot, "the container's end", inside+"link set eth0 up")
		tell.Sh(story.Pivot, "and a route to all others", inside+"route add default via "+b.Addr.Addr().String())
		return nil
	}}
}

// TellRemove tells what Remove does.
func (b Bridge) TellRemove(tell story.Story) {
	tell.Run(story.After, "the cable is gone with the container, the switch is not", "ip", "link", "del", b.Name)
	tell.Run(story.After, "nor the rules", "nft", "delete", "table", "ip", b.table().Name)
}
