package resolver

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// patience is for all resolvers together. Clients ask again after 5 seconds, see resolv.conf(5): until then they learn
	// that nobody answers.
	patience = 4500 * time.Millisecond
	// headStart is what a resolver has before the next one is asked, too. It may still answer first: a dead resolver costs
	// a second, a slow one nothing.
	headStart = time.Second
)

// forward asks the resolvers.
func (r *running) forward(q *query) []byte {
	ctx, cancel := context.WithTimeout(r.ctx, patience)
	defer cancel()
	failure := q.reply(dnsmessage.RCodeServerFailure)
	select {
	case r.asking <- struct{}{}:
		defer func() { <-r.asking }()
	case <-ctx.Done():
		return failure
	}
	rest := r.Upstream()
	replies := make(chan []byte, len(rest)) // nobody waits to send
	for asked := 0; ; {
		if len(rest) > 0 {
			server := rest[0]
			r.work.Go(func() { replies <- r.ask(ctx, q, server) })
			rest = rest[1:]
			asked++
		} else if asked == 0 {
			return failure
		}
		select {
		case reply := <-replies:
			asked--
			if reply != nil && !failed(reply) {
				return reply
			}
			if reply != nil {
				failure = reply
			}
		case <-time.After(headStart):
		case <-ctx.Done():
			return failure
		}
	}
}

// failed says that another resolver may know more. That there is no such name is an answer.
func failed(reply []byte) bool {
	switch dnsmessage.RCode(reply[3] & 0xf) {
	case dnsmessage.RCodeServerFailure, dnsmessage.RCodeNotImplemented, dnsmessage.RCodeRefused:
		return true
	}
	return false
}

// ask sends the question to one resolver as it came, and returns the answer as it comes. nil: there is none.
func (r *running) ask(ctx context.Context, q *query, server netip.AddrPort) []byte {
	dial := r.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, q.network, server.String())
	if err != nil {
		return nil
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	// Whoever wants to answer in the resolver's place has to guess two numbers: this one, and the port of the new socket.
	msg := slices.Clone(q.msg)
	rand.Read(msg[:2])
	id := binary.BigEndian.Uint16(msg)
	if q.network == "tcp" {
		msg = withLength(msg)
	}
	if _, err := conn.Write(msg); err != nil {
		return nil
	}
	for {
		reply, err := receive(conn, q.network)
		if err != nil {
			return nil
		}
		if q.answeredBy(reply, id) {
			return q.fit(reply)
		}
	}
}

func receive(conn net.Conn, network string) ([]byte, error) {
	if network == "tcp" {
		return readMessage(conn, 1<<16-1)
	}
	buf := make([]byte, maxSize+1) // more than any limit: one byte too many is as bad as all of them
	n, err := conn.Read(buf)
	return buf[:n], err
}

// answeredBy tells a resolver's answer from what others send. A resolver that could not read the question may leave it out.
func (q *query) answeredBy(reply []byte, id uint16) bool {
	var p dnsmessage.Parser
	h, err := p.Start(reply)
	if err != nil || !h.Response || h.ID != id {
		return false
	}
	got, err := p.Question() // empty if there is an error, as q's own is
	if err == dnsmessage.ErrSectionDone {
		return h.RCode != dnsmessage.RCodeSuccess
	}
	return got.Type == q.question.Type && got.Class == q.question.Class && strings.EqualFold(got.Name.String(), q.question.Name.String())
}

// fit gives an answer the client's number. One that is too long becomes one that says so, and the client takes TCP.
func (q *query) fit(reply []byte) []byte {
	if len(reply) > q.limit {
		reply = q.reply(dnsmessage.RCode(reply[3] & 0xf))
		reply[2] |= 2 // TC
	}
	copy(reply, q.msg[:2])
	return reply
}
