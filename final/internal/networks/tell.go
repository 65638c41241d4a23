//go:build linux

package networks

import (
	"fmt"
	"strings"

	"gocker/final/internal/firewall"
	"gocker/final/internal/rootless"
	"gocker/step04-overlay/story"
	"gocker/step05-namespaces/namespaces"
)

// Tell is the part of a container that tells how its networks are made. What a network has that is there already is made only
// if it is not.
func (a *Attachment) Tell(tell story.Story) namespaces.Part {
	if tell == nil || len(a.Endpoints) == 0 {
		return namespaces.Part{}
	}
	in := rootless.Told(tell)
	return namespaces.Part{
		Outside: func() error {
			rootless.TellNetwork(tell)
			return a.tellNetworks(in)
		},
		Inside: func() error { // as Part has laid them by then, and kernel settings may be about their devices
			for _, e := range a.Endpoints {
				e.tell(a.bridges[e.NetworkID], in)
			}
			if rootless.Apart() && a.listeners != nil {
				tell.Sh(story.Pivot, "gocker passes on what comes to the ports of the host: by hand nobody does", ":")
			}
			if a.resolver.needed {
				tell.Sh(story.Pivot, "gocker answers questions for names at "+ResolverAddr+": by hand nobody does", ":")
			}
			return nil
		},
	}
}

func (a *Attachment) tellNetworks(tell story.Story) error {
	var rules []firewall.Network
	var ports []firewall.Port
	for _, e := range a.Endpoints {
		n, err := a.store.Find(e.NetworkID)
		if err != nil {
			return err
		}
		rules, ports = append(rules, n.rules()), append(ports, e.rules()...)
		var make []string
		n.bridge().Tell(func(l story.Line) { make = append(make, l.Command) })
		tell.Sh(story.Host, "a switch, with the host plugged in, unless it is there", fmt.Sprintf("ip link show dev %s >/dev/null 2>&1 || { %s; }", story.Quote(n.Device), strings.Join(make, " && ")))
		if !n.Internal {
			tell.Write(story.Host, "the host is a router", "/proc/sys/net/ipv4/ip_forward", 1)
		}
	}
	text := a.store.table().Text(rules, ports)
	tell.Sh(story.Host, "the rules: what leaves, what comes in, and the ports", fmt.Sprintf("nft list table inet %s >/dev/null 2>&1 || printf %%s %s | nft -f -", a.store.table(), story.Quote(text)))
	return nil
}
