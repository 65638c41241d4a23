//go:build linux

package published

import (
	"errors"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A relay leads datagrams to containers, and the answers back. Each client has a socket of its own towards the container: by it
// an answer is known to be for that client.
type relay struct {
	*poller
	most    int                      // clients
	to      map[int32]netip.AddrPort // by the socket in the host
	clients map[flow]*client
	answers map[int32]*client        // by the socket towards the container
	buffer  [1 << 16]byte            // no datagram is larger
	within  func(func() error) error // see Listeners
}

// A flow is what a client sends to one address and port of the host.
type flow struct {
	socket int32 // in the host
	from   netip.AddrPort
	zone   uint32 // of from: two devices may have neighbours with one link-local address
	asked  netip.Addr
}

type client struct {
	flow
	towards int // the container
	sender  unix.Sockaddr
	source  []byte // the control message for answers: they come from the address that was asked
	used    time.Time
}

func newRelay(most int) (*relay, error) {
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	return &relay{poller: p, most: most, to: map[int32]netip.AddrPort{}, clients: map[flow]*client{}, answers: map[int32]*client{}, within: here}, nil
}

func (r *relay) run() {
	const idle, look = 90 * time.Second, 10 * time.Second
	defer r.forget(0)
	r.file.SetReadDeadline(time.Now().Add(look))
	for {
		ready, err := r.wait()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			r.forget(idle)
			r.file.SetReadDeadline(time.Now().Add(look))
			continue
		}
		if err != nil {
			return
		}
		now := time.Now()
		for _, event := range ready {
			if to, ok := r.to[event.Fd]; ok {
				r.ask(event.Fd, to, now)
			} else if c := r.answers[event.Fd]; c != nil {
				r.answer(c, now)
			}
		}
	}
}

// atOnce is how many datagrams a socket may have before the others have a turn.
const atOnce = 64

func (r *relay) ask(socket int32, to netip.AddrPort, now time.Time) {
	for range atOnce {
		var control [64]byte
		n, size, _, sender, err := unix.Recvmsg(int(socket), r.buffer[:], control[:], unix.MSG_DONTWAIT)
		if err != nil {
			return
		}
		f := flow{socket: socket, from: addrPort(sender)}
		if s, ok := sender.(*unix.SockaddrInet6); ok {
			f.zone = s.ZoneId
		}
		source := control[:size]
		if f.asked = asked(source); !f.asked.IsValid() {
			continue
		}
		c := r.clients[f]
		if c == nil {
			if c = r.connect(f, to); c == nil {
				continue
			}
			c.sender, c.source = sender, source
		}
		c.used = now
		unix.Send(c.towards, r.buffer[:n], unix.MSG_DONTWAIT) // what cannot be sent is lost, as UDP says
	}
}

// asked reads the address that a datagram was sent to, and makes of the control message the one for the answer: that may leave
// through another device than this came in by. There is one message, as one option asks for one: ip(7), ipv6(7).
func asked(control []byte) netip.Addr {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(messages) != 1 {
		return netip.Addr{}
	}
	info := messages[0].Data
	switch messages[0].Header.Type {
	case unix.IP_PKTINFO: // struct in_pktinfo: device, our address, the destination: a broadcast address, perhaps
		clear(info[:4])
		return netip.AddrFrom4([4]byte(info[4:8]))
	case unix.IPV6_PKTINFO: // struct in6_pktinfo: the destination, device
		clear(info[16:20])
		return netip.AddrFrom16([16]byte(info[:16]))
	}
	return netip.Addr{}
}

// connect makes the socket for a new client. If there are too many, the one that said nothing for the longest time has to go.
func (r *relay) connect(f flow, to netip.AddrPort) *client {
	if len(r.clients) >= r.most {
		var oldest *client
		for _, c := range r.clients {
			if oldest == nil || c.used.Before(oldest.used) {
				oldest = c
			}
		}
		r.remove(oldest)
	}
	family := unix.AF_INET
	if to.Addr().Is6() {
		family = unix.AF_INET6
	}
	var fd int
	err := r.within(func() (err error) {
		fd, err = unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
		return err
	})
	if err != nil {
		return nil
	}
	c := &client{flow: f, towards: fd}
	if unix.Connect(fd, sockaddr(to)) != nil || r.add(fd) != nil {
		unix.Close(fd)
		return nil
	}
	r.clients[f], r.answers[int32(fd)] = c, c
	return c
}

func (r *relay) answer(c *client, now time.Time) {
	for range atOnce {
		n, err := unix.Read(c.towards, r.buffer[:])
		if err != nil {
			return // there is no more; or nobody has the port in the container, and that ends nothing
		}
		c.used = now
		unix.SendmsgN(int(c.socket), r.buffer[:n], c.source, c.sender, unix.MSG_DONTWAIT)
	}
}

// forget removes the clients that neither sent nor got anything for so long.
func (r *relay) forget(idle time.Duration) {
	for _, c := range r.clients {
		if time.Since(c.used) >= idle {
			r.remove(c)
		}
	}
}

func (r *relay) remove(c *client) {
	delete(r.clients, c.flow)
	delete(r.answers, int32(c.towards))
	unix.Close(c.towards)
}
