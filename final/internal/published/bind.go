//go:build linux

package published

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"gocker/final/internal/whynot"
	"gocker/step01-pull/shared/advice"
)

// bind makes the socket of a port. It is -1 for SCTP if the kernel does not have it: then there is nobody to take the port.
func (p Port) bind() (int, error) {
	fd, err := p.socket()
	if p.Protocol == "sctp" && (errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ESOCKTNOSUPPORT)) {
		if p.Host.Port() == 0 {
			return -1, advice.Add(fmt.Errorf("find a free port for %s: %w", p, err), "this kernel has no SCTP: choose the port of the host yourself")
		}
		return -1, nil
	}
	if err != nil {
		return -1, p.explained(err)
	}
	return fd, nil
}

func (p Port) socket() (_ int, err error) {
	family, kind, protocol := unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP
	if p.Host.Addr().Is6() {
		family = unix.AF_INET6
	}
	switch p.Protocol {
	case "tcp":
	case "udp":
		kind, protocol = unix.SOCK_DGRAM, unix.IPPROTO_UDP
	case "sctp":
		protocol = unix.IPPROTO_SCTP
	default:
		return -1, fmt.Errorf("protocol %q is not tcp, udp or sctp", p.Protocol)
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	set := func(level, option int) {
		if err == nil {
			err = os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, level, option, 1))
		}
	}
	if family == unix.AF_INET6 {
		set(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY) // the port's IPv4 has a socket of its own, or is not published
	}
	switch {
	case p.Protocol == "tcp":
		set(unix.SOL_SOCKET, unix.SO_REUSEADDR) // in spite of connections of the one before: they stay a minute in TIME_WAIT
	case p.Protocol == "udp" && family == unix.AF_INET:
		set(unix.IPPROTO_IP, unix.IP_PKTINFO)
	case p.Protocol == "udp":
		set(unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO)
	}
	if err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, sockaddr(p.Host)); err != nil {
		return -1, os.NewSyscallError("bind", err)
	}
	if p.Protocol == "tcp" {
		const backlog = 1<<16 - 1 // the kernel lowers it to net.core.somaxconn
		return fd, os.NewSyscallError("listen", unix.Listen(fd, backlog))
	}
	return fd, nil // of SCTP, too: a socket that does not listen refuses who comes, and the port is reserved
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

func boundTo(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getsockname(fd)
	return addrPort(sa), os.NewSyscallError("getsockname", err)
}

func (p Port) explained(err error) error {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		option := map[string]string{"tcp": "-ltnp", "udp": "-lunp", "sctp": "-lSnp"}[p.Protocol]
		return advice.Add(&Taken{Port: p}, "choose another port of the host, or end what has this one; to see it: ss %s", option)
	case errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, unix.EAFNOSUPPORT):
		return advice.Add(fmt.Errorf("publish %s: this host has no address %s: %w", p, p.Host.Addr(), err), "to see those that it has: ip address")
	case errors.Is(err, unix.EACCES):
		return advice.Add(fmt.Errorf("publish %s: %w", p, err),
			"only root may take a port so low; choose a higher one, or as root: sysctl net.ipv4.ip_unprivileged_port_start=%d", p.Host.Port())
	}
	return fmt.Errorf("publish %s: %w", p, whynot.MoreFiles(err))
}
