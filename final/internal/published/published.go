//go:build linux

// Package published is what a published port of a container has in the host beside the rules of nftables.
//
// Those rules change the destination of a packet that comes to the port, and so lead it to the container. In their sight are
// packets from other machines and to an address of the host. A listening socket of the host on the same port does the rest:
//
//   - It reserves the port. Nobody else can take it, and a port that is taken is an error before the container runs.
//
//   - It serves what the rules do not see: 127.0.0.1 and ::1, and the host's IPv6 if the container has only IPv4. What comes in
//     is passed on by this process, and so the container sees the host as the sender.
//
//     l, err := published.Listen([]published.Port{…}, …)   before the container runs
//     l.Serve()                                            when its addresses can be reached
//     l.Close()                                            when it has ended
//
// A socket has about 5 KiB in the kernel, some 200 bytes here, and no goroutine: all of TCP have one together, and all of UDP.
//
// Nothing here is for SCTP but the reservation: an association has addresses of its own in it, and cannot be passed on so.
package published

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"gocker/final/internal/whynot"
	"gocker/step01-pull/shared/advice"
)

// A Port of the host leads to one of a container.
type Port struct {
	Host     netip.AddrPort // the unspecified address is all of its kind; port 0 is any free one
	Last     uint16         // if it is larger than Host's port: any free one from that to this
	Protocol string         // "tcp", "udp" or "sctp"
	To       netip.AddrPort // of the container; it may have IPv4 where the host has IPv6
}

// String is as docker writes it: "127.0.0.1:8080/tcp".
func (p Port) String() string { return p.Host.String() + "/" + p.Protocol }

// Listeners are the sockets of a container's published ports.
type Listeners struct {
	Within func(do func() error) error // calls do where the containers are reached, if that is not here; set it before Serve

	bound   []bound
	tcp     *acceptor
	udp     *relay
	stop    context.CancelFunc
	running sync.WaitGroup
}

// Listen binds all ports, or none. The ports of a group have one number in the host: 0.0.0.0 and [::], for example. If that
// can be chosen, it is one that is free for all of them. A port that somebody has is a Taken. On a host without IPv6 all of its
// addresses are none.
func Listen(groups ...[]Port) (_ *Listeners, err error) {
	groups = possible(groups)
	connections, clients, err := room(slices.Concat(groups...))
	if err != nil {
		return nil, err
	}
	l := &Listeners{}
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	if l.tcp, err = newAcceptor(ctx, connections); err != nil {
		return nil, whynot.MoreFiles(err)
	}
	if l.udp, err = newRelay(clients); err != nil {
		return nil, whynot.MoreFiles(err)
	}
	for _, group := range groups {
		if err := l.listen(group); err != nil {
			if taken, ok := errors.AsType[*Taken](err); ok {
				taken.find()
			}
			return nil, err
		}
	}
	return l, nil
}

// possible are the groups without [::], if no device of the host has an IPv6 address: it is switched off, or not in the kernel.
func possible(groups [][]Port) (left [][]Port) {
	addresses, err := net.InterfaceAddrs()
	isIPv6 := func(a net.Addr) bool { network, ok := a.(*net.IPNet); return ok && network.IP.To4() == nil }
	if err == nil && slices.ContainsFunc(addresses, isIPv6) {
		return groups
	}
	for _, group := range groups {
		group = slices.DeleteFunc(slices.Clone(group), func(p Port) bool { return p.Host.Addr() == netip.IPv6Unspecified() })
		left = append(left, group)
	}
	return left
}

// room tells how many TCP connections and clients of UDP can be served. A process may have only so many files open, and this
// one needs some for other things.
func room(ports []Port) (connections, clients int, err error) {
	const others, least = 256, 64
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, 0, os.NewSyscallError("getrlimit", err)
	}
	may := int(min(limit.Cur, math.MaxInt32))
	if len(ports)+least > may {
		first, last := uint16(math.MaxUint16), uint16(0)
		for _, p := range ports {
			first, last = min(first, p.Host.Port()), max(last, p.Host.Port(), p.Last)
		}
		return 0, 0, advice.Add(fmt.Errorf("publish the ports %d-%d: they need %d sockets, and a process may have %d files open", first, last, len(ports), may),
			"raise that limit: ulimit -n %d; or publish fewer ports; or give the container the host's network: --network host", len(ports)+2*others)
	}
	free := max(may-len(ports)-others, least)
	// A connection is two sockets, and two pipes for splice(2).
	return free * 3 / 4 / 6, min(free/4, 4096), nil
}

// listen binds the ports of a group.
func (l *Listeners) listen(group []Port) error {
	if len(group) == 0 {
		return nil
	}
	var made []bound
	var err error
	numbers := group[0].numbers()
	for _, number := range numbers {
		if made, err = bindAll(group, number); !errors.Is(err, unix.EADDRINUSE) {
			break
		}
	}
	if len(numbers) > 1 && errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("none of %d ports of the host was free: %w", len(numbers), err)
	}
	l.bound = append(l.bound, made...)
	for _, b := range made {
		err = errors.Join(err, l.lead(b))
	}
	return err
}

// numbers are those that Host's port may have, in the order in which they are tried.
func (p Port) numbers() (numbers []uint16) {
	first := p.Host.Port()
	if first == 0 {
		return make([]uint16, 100) // each time the kernel finds another one, that may be taken for the rest of the group
	}
	for n := int(first); n <= int(max(first, p.Last)); n++ {
		numbers = append(numbers, uint16(n))
	}
	return numbers
}

// A bound port has a socket; -1: none is needed.
type bound struct {
	Port
	socket int
}

// bindAll gives all ports of a group this number; if it is 0, the one that the kernel finds for the first.
func bindAll(group []Port, number uint16) (made []bound, err error) {
	for _, p := range group {
		p.Host, p.Last = netip.AddrPortFrom(p.Host.Addr(), number), 0
		b := bound{p, -1}
		if b.socket, err = p.bind(); err == nil && b.socket >= 0 {
			b.Host, err = boundTo(b.socket)
		}
		made = append(made, b)
		if err != nil {
			return nil, errors.Join(err, closeAll(made))
		}
		number = b.Host.Port()
	}
	return made, nil
}

func closeAll(ports []bound) (err error) {
	for _, b := range ports {
		if b.socket >= 0 {
			err = errors.Join(err, os.NewSyscallError("close", unix.Close(b.socket)))
		}
	}
	return err
}

// lead says where what comes to a socket goes.
func (l *Listeners) lead(b bound) error {
	switch b.Protocol {
	case "tcp":
		l.tcp.to[int32(b.socket)] = b.To
		return l.tcp.add(b.socket)
	case "udp":
		l.udp.to[int32(b.socket)] = b.To
		return l.udp.add(b.socket)
	}
	return nil
}

// Ports are all that are bound, with their numbers.
func (l *Listeners) Ports() (ports []Port) {
	for _, b := range l.bound {
		ports = append(ports, b.Port)
	}
	return ports
}

// Serve begins to pass on what comes in. Those that came since Listen have waited.
func (l *Listeners) Serve() {
	if l.Within != nil {
		l.tcp.within, l.udp.within = l.Within, l.Within
	}
	if len(l.tcp.to) > 0 {
		l.running.Go(l.tcp.run)
	}
	if len(l.udp.to) > 0 {
		l.running.Go(l.udp.run)
	}
}

// Close ends all connections that it serves, and gives the ports back.
func (l *Listeners) Close() error {
	l.stop()
	if l.tcp != nil {
		l.tcp.file.Close()
	}
	if l.udp != nil {
		l.udp.file.Close()
	}
	l.running.Wait() // else they would use a socket's number when it is another file's
	err := closeAll(l.bound)
	l.bound = nil
	return err
}
