package resolver

import (
	"encoding/hex"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	minSize = 512  // bytes of UDP that any client takes: RFC 1035, section 4.2.1
	maxSize = 4096 // that are sent to a client that takes even more
	ownSize = 1232 // that clients may send, they are told; they never need more
	badVers = 16   // an RCode: EDNS has no such version yet
)

// A query is a message that asks.
type query struct {
	network  string // udp or tcp
	msg      []byte // as it came
	header   dnsmessage.Header
	question dnsmessage.Question // empty if the name is one that dnsmessage does not read: with a dot in a label
	fault    dnsmessage.RCode    // what is wrong with it
	edns     bool                // it has an OPT record, and so has the answer
	dnssec   bool                // the client wants signatures
	limit    int                 // bytes of the answer
}

// parse reads a message. To what is no question there is no answer, not even that it is none: two servers could go on for
// ever.
func parse(network string, msg []byte) (q *query, ok bool) {
	q = &query{network: network, msg: msg, limit: minSize}
	if network == "tcp" {
		q.limit = 1<<16 - 1
	}
	var p dnsmessage.Parser
	var err error
	if q.header, err = p.Start(msg); err != nil || q.header.Response {
		return nil, false
	}
	q.fault = q.read(&p)
	if q.header.OpCode != 0 { // it tells something, or wants a change
		q.fault = dnsmessage.RCodeNotImplemented
	}
	return q, true
}

// read returns what is wrong with the message.
func (q *query) read(p *dnsmessage.Parser) (fault dnsmessage.RCode) {
	var err error
	if q.question, err = p.Question(); err != nil {
		err = p.SkipQuestion()
	}
	if err != nil || p.SkipQuestion() != dnsmessage.ErrSectionDone || p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return dnsmessage.RCodeFormatError
	}
	// The answer to AXFR, all of a zone, is many messages.
	if q.question.Type == dnsmessage.TypeAXFR || q.question.Class != dnsmessage.ClassINET && q.question != (dnsmessage.Question{}) {
		fault = dnsmessage.RCodeNotImplemented
	}
	for {
		h, err := p.AdditionalHeader()
		if err == dnsmessage.ErrSectionDone {
			return fault
		}
		if err != nil || h.Type == dnsmessage.TypeOPT && q.edns || p.SkipAdditional() != nil {
			return dnsmessage.RCodeFormatError
		}
		if h.Type != dnsmessage.TypeOPT {
			continue
		}
		q.edns, q.dnssec = true, h.DNSSECAllowed()
		if q.network == "udp" {
			q.limit = min(max(int(h.Class), minSize), maxSize)
		}
		if version := h.TTL >> 16 & 0xff; version != 0 {
			fault = badVers
		}
	}
}

// reply makes an answer. What does not fit is left out, and the answer says so.
func (q *query) reply(rcode dnsmessage.RCode, answers ...dnsmessage.Resource) []byte {
	m := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: q.header.ID, Response: true, OpCode: q.header.OpCode, RCode: rcode & 0xf,
			RecursionDesired: q.header.RecursionDesired, RecursionAvailable: true, CheckingDisabled: q.header.CheckingDisabled,
		},
		Answers: answers,
	}
	if q.question != (dnsmessage.Question{}) {
		m.Questions = []dnsmessage.Question{q.question}
	}
	if q.edns {
		var h dnsmessage.ResourceHeader
		h.SetEDNS0(ownSize, rcode, q.dnssec) // it has no error to return
		m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}}
	}
	for {
		packed, err := m.Pack()
		if err != nil {
			return nil // no name that parse or names lets through
		}
		if len(packed) <= q.limit {
			return packed
		}
		m.Truncated = true
		n := len(m.Answers)
		m.Answers = m.Answers[:min(n-1, n*q.limit/len(packed))]
	}
}

// answer is nil if the question is one for the resolvers.
func (s *Server) answer(q *query) []byte {
	if q.fault != dnsmessage.RCodeSuccess {
		return q.reply(q.fault)
	}
	if q.question == (dnsmessage.Question{}) {
		return nil
	}
	name := strings.ToLower(strings.TrimSuffix(q.question.Name.String(), "."))
	var bodies []dnsmessage.ResourceBody
	if addr, ok := reversed(name); ok {
		bodies = names(s.Reverse(addr))
		if len(bodies) == 0 {
			return nil
		}
	} else {
		addrs, known := s.Lookup(name)
		if !known {
			return nil
		}
		bodies = addresses(addrs)
	}
	var records []dnsmessage.Resource
	for _, body := range bodies {
		if h, asked := header(q.question, body); asked {
			records = append(records, dnsmessage.Resource{Header: h, Body: body})
		}
	}
	return q.reply(dnsmessage.RCodeSuccess, records...)
}

// header is that of an answer to a question. Its name is the question's, with the same capital letters.
func header(question dnsmessage.Question, body dnsmessage.ResourceBody) (h dnsmessage.ResourceHeader, asked bool) {
	h = dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: 0}
	switch body.(type) {
	case *dnsmessage.AResource:
		h.Type = dnsmessage.TypeA
	case *dnsmessage.AAAAResource:
		h.Type = dnsmessage.TypeAAAA
	case *dnsmessage.PTRResource:
		h.Type = dnsmessage.TypePTR
	}
	return h, question.Type == h.Type || question.Type == dnsmessage.TypeALL
}

// addresses come in any order: most clients take the first one, and so all get some.
func addresses(addrs []netip.Addr) (bodies []dnsmessage.ResourceBody) {
	for _, i := range rand.Perm(len(addrs)) {
		if addr := addrs[i].Unmap(); addr.Is4() {
			bodies = append(bodies, &dnsmessage.AResource{A: addr.As4()})
		} else {
			bodies = append(bodies, &dnsmessage.AAAAResource{AAAA: addr.As16()})
		}
	}
	return bodies
}

// names leaves out those that DNS cannot express: a container's may be longer.
func names(all []string) (bodies []dnsmessage.ResourceBody) {
	for _, name := range all {
		n, err := dnsmessage.NewName(name + ".")
		impossible := slices.ContainsFunc(strings.Split(name, "."), func(label string) bool { return label == "" || len(label) > 63 })
		if err == nil && n.Length <= 254 && !impossible {
			bodies = append(bodies, &dnsmessage.PTRResource{PTR: n})
		}
	}
	return bodies
}

// reversed is the address that a name such as 2.0.83.10.in-addr.arpa is for: RFC 1035, section 3.5; RFC 3596, section 2.5.
func reversed(name string) (netip.Addr, bool) {
	if digits, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		parts := strings.Split(digits, ".")
		slices.Reverse(parts)
		addr, err := netip.ParseAddr(strings.Join(parts, "."))
		return addr, err == nil && addr.Is4()
	}
	if digits, ok := strings.CutSuffix(name, ".ip6.arpa"); ok {
		parts := strings.Split(digits, ".")
		slices.Reverse(parts)
		raw, err := hex.DecodeString(strings.Join(parts, ""))
		if err == nil && len(parts) == 32 && len(raw) == 16 {
			return netip.AddrFrom16([16]byte(raw)), true
		}
	}
	return netip.Addr{}, false
}
