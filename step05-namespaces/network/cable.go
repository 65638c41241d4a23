//go:build linux

package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
)

// A Switch is a bridge: a device that other devices are plugged into, and that sends each packet to the one that leads to its
// receiver. See ip-link(8), "bridge".
type Switch struct {
	Name  string         // of the device
	Addrs []netip.Prefix // with an address in it, the host itself is plugged in, and has a route to the subnet
	MTU   int            // bytes of the largest packet; 0: 1500
}

// Make makes the device, and sets it up. One of this name is unix.EEXIST.
func (s Switch) Make() error {
	attrs := netlink.LinkAttrs{Name: s.Name, MTU: s.MTU}
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		err = fmt.Errorf("make the bridge %q: %w", s.Name, err)
		switch {
		case errors.Is(err, unix.EEXIST):
			err = advice.Add(err, "if nobody uses it, one that was killed has left it: ip link del %s", s.Name)
		case errors.Is(err, unix.EOPNOTSUPP):
			err = advice.Add(err, "this kernel has no bridges: load them with modprobe bridge")
		}
		return err
	}
	if err := s.SetUp(); err != nil {
		return errors.Join(err, s.Remove())
	}
	return nil
}

// SetUp is the end of Make, for a device that is there: one that was killed may not have come so far.
func (s Switch) SetUp() error {
	// A container may say that it is a router of IPv6. The host must not believe it (CVE-2020-13401).
	err := os.WriteFile("/proc/sys/net/ipv6/conf/"+s.Name+"/accept_ra", []byte("0"), 0)
	if err != nil && !errors.Is(err, os.ErrNotExist) { // that is a kernel without IPv6
		return err
	}
	host, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer host.Close()
	return setUp(host, s.Name, s.Addrs...)
}

// Remove removes the device. What is gone already is no error.
func (s Switch) Remove() error {
	return removeDevice(s.Name)
}

func removeDevice(name string) error {
	var missing netlink.LinkNotFoundError
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if errors.As(err, &missing) || errors.Is(err, unix.ENODEV) { // the other end may have gone a moment ago, and taken it with it
		err = nil
	}
	return err
}

// A Cable is a veth pair: two devices, and a packet that goes into one comes out of the other. See veth(4).
type Cable struct {
	Host    string           // the device at the host's end
	Switch  string           // that one is plugged into; "" is none
	Pid     int              // a process in the network namespace at the other end
	Device  string           // the device there
	Addrs   []netip.Prefix   // its addresses, each with the subnet of its neighbours
	Routers []netip.Addr     // which neighbours it sends to what is for nobody in these subnets
	MAC     net.HardwareAddr // nil: the kernel makes one up
	MTU     int              // bytes of the largest packet; 0: 1500
}

// Lay lays the cable, and sets both ends up. If it fails, nothing of it is left.
func (c Cable) Lay() (err error) {
	end := netlink.LinkAttrs{Name: c.Host, MTU: c.MTU, Flags: net.FlagUp}
	if c.Switch != "" {
		bridge, err := netlink.LinkByName(c.Switch)
		if err != nil {
			return fmt.Errorf("find the bridge %q: %w", c.Switch, err)
		}
		end.MasterIndex = bridge.Attrs().Index
	}
	// Both ends are made at once, each where it belongs: a device that is moved later loses its addresses and routes.
	pair := &netlink.Veth{
		LinkAttrs: end, PeerName: c.Device, PeerNamespace: netlink.NsPid(c.Pid), PeerHardwareAddr: c.MAC, PeerMTU: uint32(c.MTU),
	}
	if err := netlink.LinkAdd(pair); err != nil {
		return fmt.Errorf("lay a cable to process %d: %w", c.Pid, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, netlink.LinkDel(pair))
		}
	}()
	return Within(c.Pid, func() error {
		inside, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer inside.Close()
		if err := setUp(inside, c.Device, c.Addrs...); err != nil {
			return err
		}
		for _, router := range c.Routers {
			if err := inside.RouteAdd(&netlink.Route{Gw: router.AsSlice()}); err != nil {
				return fmt.Errorf("route through %s: %w", router, err)
			}
		}
		return nil
	})
}

// Pull takes the cable out: one end takes the other with it. What is gone already is no error.
func (c Cable) Pull() error { return removeDevice(c.Host) }

// setUp gives a device addresses, and sets it up, so one that is up has them. at is the network namespace that has the device.
func setUp(at *netlink.Handle, device string, addrs ...netip.Prefix) error {
	link, err := at.LinkByName(device)
	if err != nil {
		return fmt.Errorf("find the device %q: %w", device, err)
	}
	for _, addr := range addrs {
		ip := &net.IPNet{IP: addr.Addr().AsSlice(), Mask: net.CIDRMask(addr.Bits(), addr.Addr().BitLen())}
		// We choose the addresses. With IPv6 the kernel would ask for a second whether a neighbour has the same.
		if err := at.AddrReplace(link, &netlink.Addr{IPNet: ip, Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("give %q the address %s: %w", device, addr, err)
		}
	}
	if err := at.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %q up: %w", device, err)
	}
	return nil
}

// Forward makes the host a router for the addresses of ip's kind. It drops what is for others, unless it is told to be one.
func Forward(ip netip.Addr) error {
	if Forwards(ip) {
		return nil
	}
	file := forwardFile(ip)
	if err := os.WriteFile(file, []byte("1"), 0); err != nil {
		return advice.Add(fmt.Errorf("forward packets: %w", err), "where you may write it: echo 1 >%s", file)
	}
	return nil
}

// Forwards tells whether the host is one already.
func Forwards(ip netip.Addr) bool {
	value, err := os.ReadFile(forwardFile(ip))
	return err == nil && strings.TrimSpace(string(value)) != "0"
}

func forwardFile(ip netip.Addr) string {
	if ip.Is6() {
		return "/proc/sys/net/ipv6/conf/all/forwarding"
	}
	return "/proc/sys/net/ipv4/ip_forward"
}
