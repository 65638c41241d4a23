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
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step04-overlay/check"
	"gocker/step05-namespaces/namespaces"
)

// A Bridge is a switch in the host, and the way out of it. It is the host's whose network namespace the calling thread is in.
type Bridge struct {
	Name   string       // of the device: at most 15 characters, see IFNAMSIZ in netdevice(7)
	Subnet netip.Prefix // of IPv4; the first address is the bridge's own
}

// Gateway is the bridge's own address. All that a container sends to others than its neighbours goes there.
func (b Bridge) Gateway() netip.Addr { return b.Subnet.Masked().Addr().Next() }

// Make makes the bridge. If it fails, nothing of it is left. What it cannot take back is net.ipv4.ip_forward: who else
// relies on it meanwhile, nobody knows.
func (b Bridge) Make() (err error) {
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: b.Name}}
	if err := netlink.LinkAdd(bridge); err != nil {
		err = fmt.Errorf("make the bridge %q: %w", b.Name, err)
		if errors.Is(err, unix.EEXIST) {
			err = advice.Add(err, "if nobody uses it, one that was killed has left it: ip link del %s", b.Name)
		}
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.Remove())
		}
	}()
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer host.Close()
	// With an address in it, the host itself is plugged in, and has a route to the subnet.
	if err := connect(host, b.Name, address(b.Gateway(), b.Subnet)); err != nil {
		return err
	}
	// A host drops what is for others, unless it is told to be a router.
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return fmt.Errorf("forward packets: %w", err)
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
func (b Bridge) Plug(pid int, ip netip.Addr) error {
	bridge, err := netlink.LinkByName(b.Name)
	if err != nil {
		return fmt.Errorf("find the bridge %q: %w", b.Name, err)
	}
	cable := netlink.LinkAttrs{Name: fmt.Sprintf("veth%x", pid), MasterIndex: bridge.Attrs().Index}
	inside, err := lay(cable, pid, address(ip, b.Subnet))
	if err != nil {
		return err
	}
	defer inside.Close()
	// The address made a route to the neighbours. This one is for all the rest.
	if err := inside.RouteAdd(&netlink.Route{Gw: b.Gateway().AsSlice()}); err != nil {
		return fmt.Errorf("route through %s: %w", b.Gateway(), err)
	}
	return nil
}

// lay lays a cable from the host to the network namespace of a process, and sets both ends up. It returns a socket that
// works on that namespace.
func lay(end netlink.LinkAttrs, pid int, there *netlink.Addr) (inside *netlink.Handle, err error) {
	// Both ends are made at once, each where it belongs: a device that is moved later loses its addresses and routes.
	cable := &netlink.Veth{LinkAttrs: end, PeerName: "eth0", PeerNamespace: netlink.NsPid(pid)}
	if err := netlink.LinkAdd(cable); err != nil {
		return nil, fmt.Errorf("lay a cable to process %d: %w", pid, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, netlink.LinkDel(cable))
		}
	}()
	if err := netlink.LinkSetUp(cable); err != nil {
		return nil, fmt.Errorf("set %q up: %w", end.Name, err)
	}
	err = inNetworkOf(pid, func() error {
		if inside, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
			return err
		}
		return connect(inside, "eth0", there)
	})
	return inside, err
}

// Remove takes away the bridge and the rules, and with the bridge its ends of cables are loose. What is gone already is no
// error.
func (b Bridge) Remove() error {
	var missing netlink.LinkNotFoundError
	bridge, err := netlink.LinkByName(b.Name)
	if err == nil {
		err = netlink.LinkDel(bridge)
	}
	if errors.As(err, &missing) {
		err = nil
	}
	return errors.Join(err, b.Unmasquerade())
}

// connect gives a device an address, and sets it up. at is the network namespace that has the device.
func connect(at *netlink.Handle, device string, address *netlink.Addr) error {
	link, err := at.LinkByName(device)
	if err != nil {
		return fmt.Errorf("find the device %q: %w", device, err)
	}
	if err := at.AddrAdd(link, address); err != nil {
		return fmt.Errorf("give %q the address %s: %w", device, address, err)
	}
	if err := at.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %q up: %w", device, err)
	}
	return nil
}

// address is an address and how much of it all neighbours have in common.
func address(ip netip.Addr, subnet netip.Prefix) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(subnet.Bits(), ip.BitLen())}}
}

// An Uplink is a cable of the host to another machine: here, a network namespace that has no bridge.
type Uplink struct {
	Device      string       // of the host
	Host, There netip.Prefix // the addresses at both ends
}

// Plug lays the cable to the network namespace of a process, which is the other machine.
func (u Uplink) Plug(pid int) error {
	inside, err := lay(netlink.LinkAttrs{Name: u.Device}, pid, address(u.There.Addr(), u.There))
	if err != nil {
		return err
	}
	inside.Close()
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer host.Close()
	return connect(host, u.Device, address(u.Host.Addr(), u.Host))
}
