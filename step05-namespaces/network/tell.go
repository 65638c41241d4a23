//go:build linux

package network

import (
	"fmt"
	"net/netip"
	"strings"

	"gocker/step04-overlay/story"
	"gocker/step05-namespaces/namespaces"
)

// TellMake tells what Make does.
func (b Bridge) TellMake(tell story.Story) {
	Switch{Name: b.Name, Addrs: []netip.Prefix{b.Addr}}.Tell(tell)
	tell.Write(story.Host, "the host is a router", "/proc/sys/net/ipv4/ip_forward", 1)
	table := b.table().Name
	tell.Run(story.Host, "a table of its own", "nft", "add", "table", "ip", table)
	tell.Run(story.Host, "a chain that sees each new connection on its way out",
		"nft", fmt.Sprintf("add chain ip %s postrouting { type nat hook postrouting priority srcnat; }", table))
	tell.Run(story.Host, "what comes from the subnet and leaves it gets the host's address",
		"nft", fmt.Sprintf("add rule ip %s postrouting ip saddr %s oifname != %q counter masquerade", table, b.Addr.Masked(), b.Name))
}

// Tell tells what Make does.
func (s Switch) Tell(tell story.Story) {
	tell.Run(story.Host, "a switch", append([]string{"ip", "link", "add", s.Name}, append(mtu(s.MTU), "type", "bridge")...)...)
	tell.Write(story.Host, "no container can make itself a router for the host", "/proc/sys/net/ipv6/conf/"+s.Name+"/accept_ra", 0)
	for _, addr := range s.Addrs {
		tell.Run(story.Host, "with an address in it, the host itself is plugged in", "ip", "addr", "add", addr.String(), "dev", s.Name)
	}
	tell.Run(story.Host, "a device begins down", "ip", "link", "set", s.Name, "up")
}

func mtu(bytes int) []string {
	if bytes == 0 {
		return nil
	}
	return []string{"mtu", fmt.Sprint(bytes)}
}

// TellCable is the part of a container that tells what Cable does.
func (b Bridge) TellCable(ip netip.Addr, tell story.Story) namespaces.Part {
	if tell == nil {
		return namespaces.Part{}
	}
	return namespaces.Part{Ready: func(p *namespaces.Process) error {
		b.cable(p.Pid, ip).Tell(tell)
		return nil
	}}
}

// Tell tells what Lay does. The process in the container's network namespace is $pid.
func (c Cable) Tell(tell story.Story) {
	// A name that is made of the process's number is so in the script, too.
	host := strings.ReplaceAll(story.Quote(c.Host), fmt.Sprintf("veth%x", c.Pid), `"veth$pid"`)
	link := []string{"ip link add " + host}
	if c.Switch != "" {
		link = append(link, "master "+story.Quote(c.Switch))
	}
	link = append(append(link, mtu(c.MTU)...), "type veth peer name "+story.Quote(c.Device))
	if c.MAC != nil {
		link = append(link, "address "+c.MAC.String())
	}
	link = append(append(link, mtu(c.MTU)...), `netns "$pid"`)
	inside := `nsenter --target="$pid" --net ip `
	tell.Sh(story.Pivot, "a cable: one end in the switch, one in the container", strings.Join(link, " "))
	tell.Sh(story.Pivot, "both ends begin down", "ip link set "+host+" up")
	for _, addr := range c.Addrs {
		command := inside + "addr add " + addr.String() + " dev " + story.Quote(c.Device)
		if addr.Addr().Is6() {
			command += " nodad"
		}
		tell.Sh(story.Pivot, "an address, and with it a route to the neighbours", command)
	}
	tell.Sh(story.Pivot, "the container's end", inside+"link set "+story.Quote(c.Device)+" up")
	for _, router := range c.Routers {
		tell.Sh(story.Pivot, "and a route to all others", inside+"route add default via "+router.String())
	}
}

// TellRemove tells what Remove does.
func (b Bridge) TellRemove(tell story.Story) {
	tell.Run(story.After, "the cable is gone with the container, the switch is not", "ip", "link", "del", b.Name)
	tell.Run(story.After, "nor the rules", "nft", "delete", "table", "ip", b.table().Name)
}
