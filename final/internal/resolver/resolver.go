// Package resolver answers the DNS questions of one container.
//
// Containers on a network know each other by names, and come and go while others run. No file of names in a container could
// keep up, so each container has a name server of its own, which looks a name up when it is asked:
//
//	the container                            the process that holds it
//	nameserver 127.0.0.11, options ndots:0
//	  └─ 127.0.0.11:53
//	       └─ DNAT ──────────────────────── two sockets, in the container's network namespace
//	                                           a name that Lookup knows: its addresses
//	                                           an address that Reverse knows: its names
//	                                           all else: the host's resolvers, in the host's namespace
//
// A socket stays in the network namespace where it was made. So one process serves the container and asks the host's
// resolvers, also one at 127.0.0.53. Without ndots:0, a client tries "db.example.com" before "db": see resolv.conf(5).
//
// The sockets have any ports at 127.0.0.11, because a program in the container may want port 53 of all addresses. Rules
// in the container's network namespace lead there, as nft(8) has them:
//
//	table ip gocker-dns {
//		chain output {
//			type nat hook output priority -100
//			ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:40001
//			ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:40002
//		}
//	}
//
// Clients get a TTL of 0: no name server on the way may keep an answer, as the next one may differ. Nothing is kept here,
// either.
//
// A container can hurt only itself: what it asks at once is limited. It has no proof that an answer is true: what DNSSEC
// proves is passed on, and not checked.
//
// See RFC 1035 on messages, RFC 6891 on EDNS, RFC 7766 on TCP.
package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/netutil"
)

const (
	maxQuery   = 4096 // bytes; no name makes a question nearly as long
	maxWaiting = 1024 // questions for the host's resolvers
	maxAsking  = 256  // of these at once: each has a socket for each resolver, and the process needs descriptors, too
	maxConns   = 64   // TCP connections of the container; more wait in the listener's queue
	idle       = 10 * time.Second
	pause      = 100 * time.Millisecond // after an error such as too many open files
)

// A Server answers the questions of one container. Its functions are called by several goroutines at once.
type Server struct {
	// Lookup finds the addresses of a name, in lower case and without a final dot. A known name without any of IPv6 has an
	// empty answer to a question for them. An unknown name is a question for the resolvers.
	Lookup func(name string) (addrs []netip.Addr, known bool)
	// Reverse finds the names of an address. If it has none, it is a question for the resolvers.
	Reverse func(netip.Addr) (names []string)
	// Upstream is where all other questions go, in order. It is called for each: a laptop meets other networks. Without
	// any the answer is SERVFAIL.
	Upstream func() []netip.AddrPort
	// Dial connects with one of Upstream; nil: from the network namespace of the process.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Serve answers what comes in until both sockets are closed. It does not close them.
func (s *Server) Serve(udp *net.UDPConn, tcp net.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Server: s, ctx: ctx, waiting: make(chan struct{}, maxWaiting), asking: make(chan struct{}, maxAsking)}
	var loops sync.WaitGroup
	loops.Go(func() { r.serveUDP(udp) })
	loops.Go(func() { r.serveTCP(netutil.LimitListener(tcp, maxConns)) })
	loops.Wait()
	cancel()
	r.work.Wait()
}

// running is a Server at work.
type running struct {
	*Server
	ctx             context.Context // done when the sockets are closed
	work            sync.WaitGroup  // all goroutines
	waiting, asking chan struct{}   // have an element for each question
}

func (r *running) serveUDP(conn *net.UDPConn) {
	buf := make([]byte, maxQuery)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(pause)
			continue
		}
		r.handle("udp", buf[:n], func(reply []byte) {
			if reply != nil {
				conn.WriteToUDPAddrPort(reply, from)
			}
		})
	}
}

func (r *running) serveTCP(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(pause)
			continue
		}
		r.work.Go(func() { r.serveConn(conn) })
	}
}

// serveConn answers the questions of one connection, each when its answer is there. A client may close its direction of the
// connection after the last question.
func (r *running) serveConn(conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(r.ctx, func() { conn.Close() })()
	var unanswered sync.WaitGroup
	defer unanswered.Wait()
	var writing sync.Mutex
	for {
		conn.SetReadDeadline(time.Now().Add(idle))
		msg, err := readMessage(conn, maxQuery)
		if err != nil {
			return
		}
		unanswered.Add(1)
		r.handle("tcp", msg, func(reply []byte) {
			defer unanswered.Done()
			if reply == nil {
				return
			}
			writing.Lock()
			defer writing.Unlock()
			conn.SetWriteDeadline(time.Now().Add(idle))
			conn.Write(withLength(reply))
		})
	}
}

// handle calls reply once, now or later; with nil if there is nothing to say.
func (r *running) handle(network string, msg []byte, reply func([]byte)) {
	q, ok := parse(network, msg)
	if !ok {
		reply(nil)
		return
	}
	if answer := r.answer(q); answer != nil {
		reply(answer)
		return
	}
	select {
	case r.waiting <- struct{}{}:
	default:
		reply(q.reply(dnsmessage.RCodeServerFailure))
		return
	}
	q.msg = slices.Clone(msg) // the next one overwrites it
	r.work.Go(func() {
		defer func() { <-r.waiting }()
		reply(r.forward(q))
	})
}

// Over TCP the length stands in front of a message: RFC 1035, section 4.2.2.

func readMessage(conn io.Reader, most int) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(length[:]))
	if n > most {
		return nil, errors.New("the message is too long")
	}
	msg := make([]byte, n)
	_, err := io.ReadFull(conn, msg)
	return msg, err
}

// withLength is one piece, so that it is one packet.
func withLength(msg []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...)
}
