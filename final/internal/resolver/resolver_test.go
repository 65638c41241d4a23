package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"gocker/step01-pull/shared/testenv"
)

// containers are on the network of the container that asks.
var containers = map[string][]netip.Addr{
	"web":          {netip.MustParseAddr("10.83.0.2"), netip.MustParseAddr("fd83::2")},
	"web.blue":     {netip.MustParseAddr("10.83.0.2")},
	"only4":        {netip.MustParseAddr("10.83.0.3")},
	"0123456789ab": {netip.MustParseAddr("10.83.0.3")},
	"starting":     {},
	"many":         many(100),
}

func many(n int) (addrs []netip.Addr) {
	for i := range n {
		addrs = append(addrs, netip.AddrFrom4([4]byte{10, 84, 0, byte(i)}))
	}
	return addrs
}

// server answers what the containers are called, and asks upstream for all else.
func server(upstream ...netip.AddrPort) *Server {
	return &Server{
		Lookup: func(name string) ([]netip.Addr, bool) { addrs, known := containers[name]; return addrs, known },
		Reverse: func(addr netip.Addr) (names []string) {
			switch addr.String() {
			case "10.83.0.2", "fd83::2":
				return []string{"web.blue", strings.Repeat("long", 16) + ".blue", "web..blue", "web"}
			}
			return nil
		},
		Upstream: func() []netip.AddrPort { return upstream },
	}
}

// listen makes two sockets with the same port.
func listen(t testing.TB) (*net.UDPConn, net.Listener) {
	t.Helper()
	for range 100 {
		udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		tcp, err := net.Listen("tcp", udp.LocalAddr().String())
		if err == nil {
			return udp, tcp
		}
		udp.Close() // somebody has this port
	}
	t.Fatal("no port is free for UDP and TCP")
	return nil, nil
}

// start serves until the test ends, and returns where.
func start(t testing.TB, s *Server) (at string) {
	t.Helper()
	udp, tcp := listen(t)
	ended := make(chan struct{})
	go func() { s.Serve(udp, tcp); close(ended) }()
	t.Cleanup(func() {
		udp.Close()
		tcp.Close()
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			t.Error("Serve goes on after its sockets are closed")
		}
	})
	return udp.LocalAddr().String()
}

// libc is Go's resolver with the server as its only one.
func libc(at string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, at)
	}}
}

// ask is one question and its answer.
func ask(t testing.TB, network, at string, query []byte) dnsmessage.Message {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(exchange(t, network, at, query)); err != nil {
		t.Fatalf("the answer cannot be read: %v", err)
	}
	if m.ID != binary.BigEndian.Uint16(query) || !m.Response {
		t.Fatalf("the answer to number %d is %v", binary.BigEndian.Uint16(query), m.GoString())
	}
	return m
}

// exchange fails the test if nothing comes back while a client waits.
func exchange(t testing.TB, network, at string, query []byte) []byte {
	t.Helper()
	conn, err := net.Dial(network, at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if network == "tcp" {
		query = withLength(query)
	}
	if _, err := conn.Write(query); err != nil {
		t.Fatal(err)
	}
	if network == "tcp" {
		reply, err := readMessage(conn, 1<<16-1)
		if err != nil {
			t.Fatalf("read the answer over TCP: %v", err)
		}
		return reply
	}
	reply := make([]byte, 1<<16)
	n, err := conn.Read(reply)
	if err != nil {
		t.Fatalf("read the answer over UDP: %v", err)
	}
	return reply[:n]
}

// question is a message, with an OPT record if size is not 0.
func question(t testing.TB, name string, kind dnsmessage.Type, size int) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 0xbeef, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}},
	}
	if size > 0 {
		var h dnsmessage.ResourceHeader
		h.SetEDNS0(size, 0, true)
		m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}}
	}
	packed, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return packed
}

func TestContainersFindEachOther(t *testing.T) {
	client, ctx := libc(start(t, server())), t.Context()
	for _, tt := range []struct {
		network, name string
		want          []string
	}{
		{"ip", "web.", []string{"10.83.0.2", "fd83::2"}},
		{"ip", "WEB.", []string{"10.83.0.2", "fd83::2"}},
		{"ip4", "web.", []string{"10.83.0.2"}},
		{"ip6", "web.", []string{"fd83::2"}},
		{"ip", "web.blue.", []string{"10.83.0.2"}},
		{"ip", "0123456789ab.", []string{"10.83.0.3"}},
	} {
		addrs, err := client.LookupNetIP(ctx, tt.network, tt.name)
		var got []string
		for _, addr := range addrs {
			got = append(got, addr.Unmap().String())
		}
		slices.Sort(got)
		if !slices.Equal(got, tt.want) || err != nil {
			t.Errorf("LookupNetIP(%q, %q) = %q, %v; want %q", tt.network, tt.name, got, err, tt.want)
		}
	}
	for _, addr := range []string{"10.83.0.2", "fd83::2"} {
		// What DNS cannot express is left out, and nothing else.
		if got, err := client.LookupAddr(ctx, addr); !slices.Equal(got, []string{"web.blue.", "web."}) || err != nil {
			t.Errorf("LookupAddr(%q) = %q, %v", addr, got, err)
		}
	}
}

func TestAKnownNameWithoutTheAskedRecordIsNoError(t *testing.T) {
	at := start(t, server()) // who asks others gets SERVFAIL
	for name, kinds := range map[string][]dnsmessage.Type{
		"only4.":                  {dnsmessage.TypeAAAA, dnsmessage.TypeMX, dnsmessage.TypeTXT, dnsmessage.TypeSRV, 65},
		"starting.":               {dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypeALL},
		"2.0.83.10.in-addr.arpa.": {dnsmessage.TypeA, dnsmessage.TypeTXT},
	} {
		for _, kind := range kinds {
			if m := ask(t, "udp", at, question(t, name, kind, 0)); m.RCode != dnsmessage.RCodeSuccess || len(m.Answers) > 0 {
				t.Errorf("%s %v: %v, %v; want no error and no answers", name, kind, m.RCode, m.Answers)
			}
		}
	}
}

func TestAnAnswerIsKeptByNobody(t *testing.T) {
	m := ask(t, "udp", start(t, server()), question(t, "wEb.", dnsmessage.TypeALL, 0))
	if len(m.Answers) != 2 || !m.RecursionAvailable || !m.RecursionDesired || m.Truncated || len(m.Additionals) > 0 {
		t.Errorf("ANY: %s", m.GoString())
	}
	for _, a := range m.Answers {
		if a.Header.TTL != 0 || a.Header.Name.String() != "wEb." || a.Header.Class != dnsmessage.ClassINET {
			t.Errorf("%s; want a TTL of 0, and the name as it was asked", a.GoString())
		}
	}
}

func TestAddressesComeInAnyOrder(t *testing.T) {
	at := start(t, server())
	first := map[dnsmessage.AResource]bool{}
	for range 20 {
		first[*ask(t, "tcp", at, question(t, "many.", dnsmessage.TypeA, 0)).Answers[0].Body.(*dnsmessage.AResource)] = true
	}
	if len(first) < 5 {
		t.Errorf("only %d of 100 addresses came first in 20 answers", len(first))
	}
}

func TestWhatDoesNotFitIsLeftOutAndTold(t *testing.T) {
	at := start(t, server())
	for _, tt := range []struct {
		network   string
		size      int // that the client says it takes
		least     int // answers
		most      int // bytes
		truncated bool
	}{
		{"udp", 0, 25, 512, true},
		{"udp", 100, 25, 512, true},
		{"udp", 1232, 70, 1232, true},
		{"udp", 4096, 100, 4096, false},
		{"tcp", 0, 100, 65535, false},
		{"tcp", 512, 100, 65535, false},
	} {
		raw := exchange(t, tt.network, at, question(t, "many.", dnsmessage.TypeA, tt.size))
		var m dnsmessage.Message
		if err := m.Unpack(raw); err != nil || m.Truncated != tt.truncated || len(m.Answers) < tt.least || len(raw) > tt.most {
			t.Errorf("over %s with size %d: %d bytes, %d answers, truncated %t, %v; want %+v", tt.network, tt.size, len(raw), len(m.Answers), m.Truncated, err, tt)
		}
		if opt := len(m.Additionals); (opt == 1) != (tt.size > 0) {
			t.Errorf("over %s with size %d: %d OPT records; want one for one", tt.network, tt.size, opt)
		}
	}
	if addrs, err := libc(at).LookupHost(t.Context(), "many."); len(addrs) != 100 || err != nil {
		t.Errorf("a client that takes TCP, too: %d addresses, %v; want 100", len(addrs), err)
	}
}

func TestOtherQuestionsAreRefused(t *testing.T) {
	at := start(t, server())
	change := func(f func(*dnsmessage.Message)) []byte {
		var m dnsmessage.Message
		if err := m.Unpack(question(t, "web.", dnsmessage.TypeA, 1232)); err != nil {
			t.Fatal(err)
		}
		f(&m)
		packed, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		return packed
	}
	for name, tt := range map[string]struct {
		query []byte
		want  dnsmessage.RCode
	}{
		"two questions":        {change(func(m *dnsmessage.Message) { m.Questions = append(m.Questions, m.Questions[0]) }), dnsmessage.RCodeFormatError},
		"none":                 {change(func(m *dnsmessage.Message) { m.Questions = nil }), dnsmessage.RCodeFormatError},
		"a cut one":            {question(t, "web.", dnsmessage.TypeA, 0)[:16], dnsmessage.RCodeFormatError},
		"a cut OPT record":     {question(t, "web.", dnsmessage.TypeA, 1232)[:30], dnsmessage.RCodeFormatError},
		"two OPT records":      {change(func(m *dnsmessage.Message) { m.Additionals = append(m.Additionals, m.Additionals[0]) }), dnsmessage.RCodeFormatError},
		"another class":        {change(func(m *dnsmessage.Message) { m.Questions[0].Class = dnsmessage.ClassCHAOS }), dnsmessage.RCodeNotImplemented},
		"an update":            {change(func(m *dnsmessage.Message) { m.OpCode = 5 }), dnsmessage.RCodeNotImplemented},
		"all of a zone":        {change(func(m *dnsmessage.Message) { m.Questions[0].Type = dnsmessage.TypeAXFR }), dnsmessage.RCodeNotImplemented},
		"EDNS of the future":   {change(func(m *dnsmessage.Message) { m.Additionals[0].Header.TTL = 1 << 16 }), 0}, // and 16 in OPT
		"nobody to be asked":   {question(t, "example.com.", dnsmessage.TypeA, 0), dnsmessage.RCodeServerFailure},
		"an unknown neighbour": {question(t, "9.0.83.10.in-addr.arpa.", dnsmessage.TypePTR, 0), dnsmessage.RCodeServerFailure},
	} {
		for _, network := range []string{"udp", "tcp"} {
			if m := ask(t, network, at, tt.query); m.RCode != tt.want || len(m.Answers) > 0 {
				t.Errorf("%s, over %s: %v and %d answers; want %v", name, network, m.RCode, len(m.Answers), tt.want)
			}
		}
	}
	future := change(func(m *dnsmessage.Message) { m.Additionals[0].Header.TTL = 1 << 16 })
	if m := ask(t, "udp", at, future); len(m.Additionals) != 1 || m.Additionals[0].Header.ExtendedRCode(m.RCode) != badVers {
		t.Errorf("EDNS of the future: %s; want the code %d", m.GoString(), badVers)
	}
}

// Otherwise two servers could answer each other for ever.
func TestNoQuestionHasNoAnswer(t *testing.T) {
	at := start(t, server())
	conn, err := net.Dial("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answer := question(t, "web.", dnsmessage.TypeA, 0)
	answer[2] |= 0x80
	for _, noise := range [][]byte{{}, []byte("noise"), answer} {
		conn.Write(noise)
	}
	conn.Write(question(t, "web.", dnsmessage.TypeA, 0))
	conn.SetDeadline(time.Now().Add(time.Second))
	for _, want := range []bool{true, false} {
		if n, err := conn.Read(make([]byte, 512)); (err == nil) != want {
			t.Errorf("Read = %d, %v; want one answer: to the question", n, err)
		}
		conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
	}
}

func TestOneConnectionCarriesManyQuestions(t *testing.T) {
	slow := upstream(t, func(network string, query []byte, reply func([]byte)) {
		time.Sleep(200 * time.Millisecond)
		reply(found(query))
	})
	conn, err := net.Dial("tcp", start(t, server(slow)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	var sent []byte
	for id, name := range []string{"example.com.", "web.", "only4."} {
		query := question(t, name, dnsmessage.TypeA, 0)
		binary.BigEndian.PutUint16(query, uint16(id))
		sent = append(sent, withLength(query)...)
	}
	for _, b := range sent { // each byte in a packet of its own
		if _, err := conn.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	conn.(*net.TCPConn).CloseWrite()
	for _, want := range []uint16{1, 2, 0} { // nobody waits for the slow one
		reply, err := readMessage(conn, 1<<16-1)
		if err != nil || binary.BigEndian.Uint16(reply) != want {
			t.Fatalf("the answer is %q, %v; want number %d", reply, err, want)
		}
	}
	if _, err := readMessage(conn, 1<<16-1); err != io.EOF {
		t.Errorf("after the last answer: %v; want the end", err)
	}
}

func TestAMessageThatIsTooLongEndsTheConnection(t *testing.T) {
	conn, err := net.Dial("tcp", start(t, server()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	conn.Write(withLength(make([]byte, maxQuery+1))[:2])
	if n, err := conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("Read = %d, %v; want the end", n, err)
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	at := start(t, server())
	var open []net.Conn
	for range maxConns + 1 {
		conn, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.Write(withLength(question(t, "web.", dnsmessage.TypeA, 0)))
		open = append(open, conn)
	}
	for _, conn := range open[:maxConns] {
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := readMessage(conn, 512); err != nil {
			t.Fatal(err)
		}
	}
	last := open[maxConns]
	last.SetDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := readMessage(last, 512); !isTimeout(err) {
		t.Errorf("one connection too many: %v; want it to wait", err)
	}
	open[0].Close()
	last.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := readMessage(last, 512); err != nil {
		t.Errorf("when another one is closed: %v", err)
	}
}

func isTimeout(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) && netErr.Timeout()
}

func TestServeLeavesNothingBehind(t *testing.T) {
	silent := upstream(t, func(string, []byte, func([]byte)) {})
	before := runtime.NumGoroutine()
	udp, tcp := listen(t)
	ended := make(chan struct{})
	go func() { server(silent).Serve(udp, tcp); close(ended) }()
	for _, network := range []string{"udp", "tcp"} {
		conn, err := net.Dial(network, udp.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		query := question(t, "example.com.", dnsmessage.TypeA, 0)
		if network == "tcp" {
			query = withLength(query)
		}
		conn.Write(query)
	}
	time.Sleep(100 * time.Millisecond) // the questions are asked
	udp.Close()
	tcp.Close()
	begin := time.Now()
	<-ended
	if took := time.Since(begin); took > time.Second {
		t.Errorf("Serve ended after %v", took)
	}
	for deadline := time.Now().Add(time.Second); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) { // the upstream's have ended, too
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, before there were %d:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}

// dig is another implementation of all this.
func TestDigIsContent(t *testing.T) {
	testenv.Needs(t, "dig")
	at := netip.MustParseAddrPort(start(t, server(upstream(t, func(network string, query []byte, reply func([]byte)) { reply(found(query)) }))))
	for args, want := range map[string][]string{
		"web A":                            {"status: NOERROR", "ANSWER: 1", "web.\t\t\t0\tIN\tA\t10.83.0.2", "udp: 1232"},
		"WeB AAAA +noedns":                 {"status: NOERROR", "ANSWER: 1", "WeB.\t\t\t0\tIN\tAAAA\tfd83::2"},
		"-x 10.83.0.2":                     {"2.0.83.10.in-addr.arpa.\t0\tIN\tPTR\tweb.blue."},
		"-x fd83::2":                       {"ANSWER: 2", "IN PTR web.blue.", "IN PTR web."},
		"only4 AAAA":                       {"status: NOERROR", "ANSWER: 0"},
		"many A +noedns +ignore":           {"flags: qr tc rd ra;", "status: NOERROR"},
		"many A +noedns":                   {"Truncated, retrying in TCP mode", "ANSWER: 100"},
		"many A +tcp +keepopen web A":      {"ANSWER: 100", "ANSWER: 1", "10.83.0.2"},
		"version.bind TXT CH":              {"status: NOTIMP"},
		"web A +opcode=notify":             {"status: NOTIMP"},
		"web A +edns=1 +noednsnegotiation": {"status: BADVERS"},
		"web A +dnssec":                    {"flags: do; udp: 1232"},
		"example.com A":                    {"example.com.\t\t60\tIN\tA\t192.0.2.1"},
		"example.com A +tcp":               {"example.com.\t\t60\tIN\tA\t192.0.2.1", "(TCP)"},
		"-x 192.0.2.1":                     {"status: NOERROR"},
	} {
		out, err := exec.Command("dig", append([]string{"@" + at.Addr().String(), "-p", fmt.Sprint(at.Port()), "+tries=1", "+time=4"}, strings.Fields(args)...)...).CombinedOutput()
		if err != nil || strings.Contains(string(out), "WARNING") {
			t.Errorf("dig %s: %v\n%s", args, err, out)
		}
		for _, part := range want {
			if !strings.Contains(string(out), part) {
				t.Errorf("dig %s: want %q in\n%s", args, part, out)
			}
		}
	}
}

func TestReversedNames(t *testing.T) {
	for name, want := range map[string]string{
		"2.0.83.10.in-addr.arpa":   "10.83.0.2",
		"0.83.10.in-addr.arpa":     "",
		"02.0.83.10.in-addr.arpa":  "",
		"2.0.83.256.in-addr.arpa":  "",
		"1.2.0.83.10.in-addr.arpa": "",
		"::1.in-addr.arpa":         "",
		"in-addr.arpa":             "",
		"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.3.8.d.f.ip6.arpa":  "fd83::2",
		"20.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.3.8.d.f.ip6.arpa": "",
		"0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.3.8.d.f.ip6.arpa":    "",
		"g.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.3.8.d.f.ip6.arpa":  "",
		"web": "",
	} {
		addr, ok := reversed(name)
		if ok != (want != "") || ok && addr.String() != want {
			t.Errorf("reversed(%q) = %v, %t; want %q", name, addr, ok, want)
		}
	}
}

// Whatever is asked, the server lives, and its answer is one to this question.
func FuzzAnswer(f *testing.F) {
	f.Add(false, question(f, "web.", dnsmessage.TypeA, 0))
	f.Add(false, question(f, "many.", dnsmessage.TypeALL, 600))
	f.Add(true, question(f, "example.com.", dnsmessage.TypeTXT, 1232))
	f.Add(true, question(f, "2.0.83.10.in-addr.arpa.", dnsmessage.TypePTR, 1232))
	f.Add(false, question(f, "web.", dnsmessage.TypeA, 1232)[:20])
	f.Add(false, []byte("\xbe\xef\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03a.b\x00\x00\x01\x00\x01"))
	f.Fuzz(func(t *testing.T, tcp bool, msg []byte) {
		network := "udp"
		if tcp {
			network = "tcp"
		}
		q, ok := parse(network, msg)
		if !ok {
			return
		}
		for _, reply := range [][]byte{server().answer(q), q.reply(dnsmessage.RCodeServerFailure), q.fit(msg), q.fit(make([]byte, q.limit+1))} {
			if reply == nil {
				continue
			}
			var p dnsmessage.Parser
			h, err := p.Start(reply)
			if err != nil || h.ID != binary.BigEndian.Uint16(msg) || len(reply) > max(q.limit, len(msg)) {
				t.Fatalf("%d bytes, %v, %v", len(reply), h.GoString(), err)
			}
		}
		var m dnsmessage.Message
		reply := q.reply(dnsmessage.RCodeSuccess)
		if err := m.Unpack(reply); err != nil || !m.Response {
			t.Fatalf("%s, %v", m.GoString(), err)
		}
		q.answeredBy(msg, 0xbeef)
		q.answeredBy(reply, 0xbeef)
	})
}

func BenchmarkAnswer(b *testing.B) {
	s, query := server(), question(b, "web.", dnsmessage.TypeA, 1232)
	b.ReportAllocs()
	for b.Loop() {
		if q, ok := parse("udp", query); !ok || s.answer(q) == nil {
			b.Fatal("there is no answer")
		}
	}
}

// One question after the other, by one socket.
func BenchmarkResolver(b *testing.B) {
	conn, err := net.Dial("udp", start(b, server()))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	query, reply := question(b, "web.", dnsmessage.TypeA, 1232), make([]byte, 512)
	for b.Loop() {
		if _, err := conn.Write(query); err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Read(reply); err != nil {
			b.Fatal(err)
		}
	}
}
