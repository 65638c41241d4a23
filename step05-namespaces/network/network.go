//go:build linux

// Package network connects a network namespace with the world.
//
// A new network namespace is empty: it has the device lo, and lo is down. Nothing goes in, nothing comes out. What leads
// out is made of the same pieces as a network of machines:
//
//	the host                                          the container
//	bridge  10.83.0.1/24   a switch
//	  └─ veth1a2b ══════════ a cable ═════════════════ eth0  10.83.0.2/24
//	     forwarding          a router                  default via 10.83.0.1
//	     masquerading        it speaks for all behind it
//	  uplink                 to other machines
//
//	b.Make                            the bridge, forwarding and masquerading; once
//	namespaces.Create(…, b.Cable(ip)) a container at the end of a cable
//	b.Remove                          takes away the bridge and the rules
//
// The cables need no removal: when a container ends, its network namespace ends, with it the device eth0, and one end of a
// veth pair takes the other with it.
//
// It keeps nobody apart: containers on one bridge reach each other and the host, and the host's own rules still hold.
//
// See network_namespaces(7), veth(4), ip-link(8), and https://wiki.nftables.org.
package network

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"gocker/step04-overlay/check"
	"gocker/step05-namespaces/namespaces"
)

// A Bridge is a switch in the host, and the way out of it. It is the host's whose network namespace the calling thread is in.
type Bridge struct {
	Name string       // of the device: at most 15 characters, see IFNAMSIZ in netdevice(7)
	Addr netip.Prefix // the bridge's own address, and the subnet: "10.83.0.1/24"
}

// Make makes the bridge. If it fails, nothing of it is left. But it does not set net.ipv4.ip_forward back: others may
// rely on it meanwhile.
func (b Bridge) Make() (err error) {
	if err := (Switch{Name: b.Name, Addrs: []netip.Prefix{b.Addr}}).Make(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Remove())
		}
	}()
	if err := Forward(b.Addr.Addr()); err != nil {
		return err
	}
	return b.masquerade()
}

// Cable is the part of a container that connects it, as ip, before its command begins.
func (b Bridge) Cable(ip netip.Addr) namespaces.Part {
	return namespaces.Part{Ready: func(p *namespaces.Process) error {
		// The thread that sets the container up is in its network namespace already, and sees no bridge.
		_, err := check.Elsewhere(func() (any, error) { return nil, b.Plug(p.Pid, ip) })()
		return err
	}}
}

// Plug lays a cable between the bridge and the network namespace of a process.
func (b Bridge) Plug(pid int, ip netip.Addr) error { return b.cable(pid, ip).Lay() }

func (b Bridge) cable(pid int, ip netip.Addr) Cable {
	return Cable{
		Host: fmt.Sprintf("veth%x", pid), Switch: b.Name,
		Pid: pid, Device: "eth0", Addrs: []netip.Prefix{netip.PrefixFrom(ip, b.Addr.Bits())},
		// The address makes a route to the neighbours. This one is for all the rest.
		Routers: []netip.Addr{b.Addr.Addr()},
	}
}

// Remove takes away the bridge and the rules, and with the bridge its ends of cables are loose. What is gone already is no
// error.
func (b Bridge) Remove() error {
	return errors.Join(Switch{Name: b.Name}.Remove(), b.Unmasquerade())
}

// An Uplink is a cable of the host to another machine: here, a network namespace that has no bridge.
type Uplink struct {
	Device      string       // of the host
	Host, There netip.Prefix // the addresses at both ends
}

// Plug lays the cable to the network namespace of a process, which is the other machine.
func (u Uplink) Plug(pid int) error {
	if err := (Cable{Host: u.Device, Pid: pid, Device: "eth0", Addrs: []netip.Prefix{u.There}}).Lay(); err != nil {
		return err
	}
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer host.Close()
	return setUp(host, u.Device, u.Host)
}
