package resolver

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// upstream is one of the host's resolvers. It behaves as a test wants: reply may be called any number of times, at any time.
func upstream(t testing.TB, behave func(network string, query []byte, reply func([]byte))) netip.AddrPort {
	t.Helper()
	udp, tcp := listen(t)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			buf := make([]byte, 1<<16)
			n, from, err := udp.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			all.Go(func() {
				behave("udp", buf[:n], func(reply []byte) { udp.WriteToUDPAddrPort(reply, from) })
			})
		}
	})
	all.Go(func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				for {
					query, err := readMessage(conn, 1<<16-1)
					if err != nil {
						return
					}
					behave("tcp", query, func(reply []byte) { conn.Write(withLength(reply)) })
				}
			})
		}
	})
	t.Cleanup(func() { udp.Close(); tcp.Close(); all.Wait() })
	return udp.LocalAddr().(*net.UDPAddr).AddrPort()
}

// found is what a resolver says of a name that it knows.
func found(query []byte) []byte { return foundAt(query, netip.MustParseAddr("192.0.2.1")) }

func foundAt(query []byte, addrs ...netip.Addr) []byte {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil
	}
	m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
	for _, addr := range addrs {
		h := dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: 60}
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: &dnsmessage.AResource{A: addr.As4()}})
	}
	reply, _ := m.Pack()
	return reply
}

// notFound is its answer with another code.
func notFound(query []byte, rcode dnsmessage.RCode) []byte {
	reply := bytes.Clone(query)
	reply[2] |= 0x80
	reply[3] = byte(rcode)
	return reply
}

func always(rcode dnsmessage.RCode) func(string, []byte, func([]byte)) {
	return func(_ string, query []byte, reply func([]byte)) { reply(notFound(query, rcode)) }
}

func silent(string, []byte, func([]byte)) {}

func good(_ string, query []byte, reply func([]byte)) { reply(found(query)) }

// nobody listens there: the kernel says so.
var nobody = netip.MustParseAddrPort("127.9.9.9:9")

func TestUnknownNamesAreAskedUpstreamAsTheyCame(t *testing.T) {
	var mu sync.Mutex
	ids := map[uint16]bool{}
	var asked [][]byte
	var networks []string
	sent := []byte("\xbe\xef\x81\x80anything that the resolver says, also what is no DNS")
	at := start(t, server(upstream(t, func(network string, query []byte, reply func([]byte)) {
		mu.Lock()
		defer mu.Unlock()
		ids[binary.BigEndian.Uint16(query)] = true
		asked, networks = append(asked, bytes.Clone(query[2:])), append(networks, network)
		reply(append(notFound(query, dnsmessage.RCodeSuccess), sent...))
	})))
	query := question(t, "eXample.COM.", dnsmessage.TypeTXT, 1232)
	for _, network := range []string{"udp", "tcp", "udp", "tcp"} {
		want := append(notFound(query, dnsmessage.RCodeSuccess), sent...)
		if got := exchange(t, network, at, query); !bytes.Equal(got, want) {
			t.Errorf("over %s: %q; want %q", network, got, want)
		}
	}
	for i, network := range []string{"udp", "tcp", "udp", "tcp"} {
		if networks[i] != network || !bytes.Equal(asked[i], query[2:]) {
			t.Errorf("upstream was asked over %s: %q; want %s: %q", networks[i], asked[i], network, query[2:])
		}
	}
	if len(ids) < 3 || ids[0xbeef] {
		t.Errorf("the numbers of four questions were %v; want random ones", ids)
	}
}

// dnsmessage does not read it, others have such names: RFC 6763, section 4.3.
func TestANameMayHaveADotInALabel(t *testing.T) {
	at := start(t, server(upstream(t, always(dnsmessage.RCodeNameError))))
	query := []byte("\xbe\xef\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07web.1.2\x00\x00\x01\x00\x01")
	if got, want := exchange(t, "udp", at, query), notFound(query, dnsmessage.RCodeNameError); !bytes.Equal(got, want) {
		t.Errorf("the answer is %q, want %q", got, want)
	}
}

func TestOnlyTheResolverIsBelieved(t *testing.T) {
	lie := func(query []byte) []byte { return foundAt(query, netip.MustParseAddr("6.6.6.6")) }
	stranger, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	var mu sync.Mutex
	var client netip.AddrPort
	ports := map[uint16]bool{}
	s := server(upstream(t, func(_ string, query []byte, reply func([]byte)) {
		wrong := lie(query)
		wrong[1]++
		reply(wrong)
		other := bytes.Clone(lie(query))
		other[13] ^= 1 // the first letter of the name
		reply(other)
		kind := bytes.Clone(lie(query))
		kind[bytes.Index(kind, []byte("\x03com\x00"))+6] = 28
		reply(kind)
		reply(query)                                            // no answer
		reply(append(bytes.Clone(query[:2]), 0x81, 0x80, 0, 0)) // cut
		empty := append(bytes.Clone(query[:2]), 0x81, 0x80, 0, 0, 0, 0, 0, 0, 0, 0)
		reply(empty) // an answer to no question
		mu.Lock()
		stranger.WriteToUDPAddrPort(lie(query), client)
		mu.Unlock()
		time.Sleep(50 * time.Millisecond)
		right := found(query)
		right[13] |= 0x20 // in lower case
		reply(right)
	}))
	s.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			mu.Lock()
			client = conn.LocalAddr().(*net.UDPAddr).AddrPort()
			ports[client.Port()] = true
			mu.Unlock()
		}
		return conn, err
	}
	at := start(t, s)
	for range 3 {
		m := ask(t, "udp", at, question(t, "Example.com.", dnsmessage.TypeA, 0))
		if len(m.Answers) != 1 || m.Answers[0].Body.(*dnsmessage.AResource).A != [4]byte{192, 0, 2, 1} {
			t.Errorf("the answer is %s", m.GoString())
		}
	}
	if len(ports) < 2 {
		t.Errorf("three questions had the ports %v", ports)
	}
}

func TestAnotherResolverIsAskedWhereOneFails(t *testing.T) {
	late := func(after time.Duration) func(string, []byte, func([]byte)) {
		return func(_ string, query []byte, reply func([]byte)) { time.Sleep(after); reply(found(query)) }
	}
	type behaviour = func(string, []byte, func([]byte))
	var all sync.WaitGroup // side by side: most of them wait
	for _, tt := range []struct {
		name        string
		first       behaviour // nil: nobody is there
		second      behaviour
		want        dnsmessage.RCode
		least, most time.Duration
	}{
		{"it refuses", always(dnsmessage.RCodeRefused), good, dnsmessage.RCodeSuccess, 0, 800 * time.Millisecond},
		{"it fails", always(dnsmessage.RCodeServerFailure), good, dnsmessage.RCodeSuccess, 0, 800 * time.Millisecond},
		{"it cannot", always(dnsmessage.RCodeNotImplemented), good, dnsmessage.RCodeSuccess, 0, 800 * time.Millisecond},
		{"it is not there", nil, good, dnsmessage.RCodeSuccess, 0, 800 * time.Millisecond},
		{"it is silent", silent, good, dnsmessage.RCodeSuccess, headStart, headStart + 500*time.Millisecond},
		{"it is slow, and the other one dead", late(1500 * time.Millisecond), silent, dnsmessage.RCodeSuccess, 1500 * time.Millisecond, 2 * time.Second},
		{"it knows that there is no such name", always(dnsmessage.RCodeNameError), good, dnsmessage.RCodeNameError, 0, 800 * time.Millisecond},
		{"both refuse", always(dnsmessage.RCodeRefused), always(dnsmessage.RCodeRefused), dnsmessage.RCodeRefused, 0, 800 * time.Millisecond},
		{"both are not there", nil, nil, dnsmessage.RCodeServerFailure, 0, 800 * time.Millisecond},
		{"both are silent", silent, silent, dnsmessage.RCodeServerFailure, patience, 5 * time.Second},
		{"it refuses, and the other one is silent", always(dnsmessage.RCodeRefused), silent, dnsmessage.RCodeRefused, patience, 5 * time.Second},
	} {
		for _, network := range []string{"udp", "tcp"} {
			all.Go(func() {
				servers := []netip.AddrPort{nobody, nobody}
				for i, behave := range []behaviour{tt.first, tt.second} {
					if behave != nil {
						servers[i] = upstream(t, behave)
					}
				}
				at := start(t, server(servers...))
				begin := time.Now()
				m := ask(t, network, at, question(t, "example.com.", dnsmessage.TypeA, 1232))
				if took := time.Since(begin); m.RCode != tt.want || took < tt.least || took > tt.most {
					t.Errorf("%s, over %s: %v after %v; want %v after %v to %v", tt.name, network, m.RCode, took, tt.want, tt.least, tt.most)
				}
			})
		}
	}
	all.Wait()
}

// A resolver that could not read a question may answer without it: RFC 1035, section 4.1.1, does not say that it may not.
func TestAFailureMayLackTheQuestion(t *testing.T) {
	at := start(t, server(upstream(t, func(_ string, query []byte, reply func([]byte)) {
		reply(append(bytes.Clone(query[:2]), 0x81, 0x80|byte(dnsmessage.RCodeFormatError), 0, 0, 0, 0, 0, 0, 0, 0))
	})))
	if m := ask(t, "udp", at, question(t, "example.com.", dnsmessage.TypeA, 0)); m.RCode != dnsmessage.RCodeFormatError {
		t.Errorf("the answer is %s", m.GoString())
	}
}

func TestTruncatedAnswersAreAskedForAgainOverTCP(t *testing.T) {
	for name, overUDP := range map[string]func(query []byte) []byte{
		"the resolver truncates": func(query []byte) []byte {
			reply := notFound(query, dnsmessage.RCodeSuccess)
			reply[2] |= 2
			return reply
		},
		"the resolver sends too much":      func(query []byte) []byte { return foundAt(query, many(100)...) },
		"the resolver sends far too much":  func(query []byte) []byte { return foundAt(query, append(many(256), many(256)...)...) },
		"its answer has one byte too many": func(query []byte) []byte { return append(found(query), make([]byte, 1233-len(found(query)))...) },
	} {
		t.Run(name, func(t *testing.T) {
			at := start(t, server(upstream(t, func(network string, query []byte, reply func([]byte)) {
				if network == "udp" {
					reply(overUDP(query))
				} else {
					reply(foundAt(query, many(256)...))
				}
			})))
			if m := ask(t, "udp", at, question(t, "example.com.", dnsmessage.TypeA, 1232)); !m.Truncated || m.RCode != dnsmessage.RCodeSuccess {
				t.Errorf("the answer is %s; want a truncated one", m.GoString())
			}
			if addrs, err := libc(at).LookupHost(t.Context(), "example.com."); len(addrs) != 256 || err != nil {
				t.Errorf("%d addresses, %v; want 256", len(addrs), err)
			}
		})
	}
}

func TestAStormDoesNotDrownNeighbours(t *testing.T) {
	at := start(t, server(upstream(t, silent)))
	conn, err := net.Dial("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	query := question(t, "example.com.", dnsmessage.TypeA, 0)
	var sent, refused int
	for buf := make([]byte, 512); refused == 0 && sent < 3*maxWaiting; sent++ { // some may be lost on the way
		conn.Write(query)
		conn.SetReadDeadline(time.Now().Add(100 * time.Microsecond))
		if _, err := conn.Read(buf); err == nil {
			refused++
		}
	}
	if refused == 0 || sent < maxWaiting {
		t.Fatalf("%d of %d questions were refused; want one refused when %d wait", refused, sent, maxWaiting)
	}
	begin := time.Now()
	m := ask(t, "udp", at, question(t, "web.", dnsmessage.TypeA, 0))
	if took := time.Since(begin); len(m.Answers) != 1 || took > time.Second {
		t.Errorf("a name of the network: %d answers after %v", len(m.Answers), took)
	}
}

func TestAllOfABurstAreAnswered(t *testing.T) {
	at := start(t, server(upstream(t, func(_ string, query []byte, reply func([]byte)) {
		time.Sleep(50 * time.Millisecond)
		reply(found(query))
	})))
	var all sync.WaitGroup
	for range 2 * maxAsking {
		time.Sleep(100 * time.Microsecond) // the sockets' buffers are limited, too
		all.Go(func() {
			if m := ask(t, "udp", at, question(t, "example.com.", dnsmessage.TypeA, 0)); len(m.Answers) != 1 {
				t.Errorf("the answer is %v", m.GoString())
			}
		})
	}
	all.Wait()
}

func TestConf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "resolv.conf")
	content := "# nameserver 1.1.1.1\n; search comment\ndomain old.example\nnameserver 127.0.0.53\n" +
		"nameserver\tfe80::1%eth0 # a zone\nnameserver nonsense\nnameserver\nsearch a.example  b.example\noptions edns0 trust-ad\noptions ndots:2"
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	want := Conf{
		Servers: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.53:53"), netip.MustParseAddrPort("[fe80::1%eth0]:53")},
		Search:  []string{"a.example", "b.example"},
		Options: []string{"edns0", "trust-ad", "ndots:2"},
	}
	if got, err := ReadConf(path); !reflect.DeepEqual(got, want) || err != nil {
		t.Errorf("ReadConf = %+v, %v; want %+v", got, err, want)
	}
	if _, err := ReadConf(path + ".none"); !os.IsNotExist(err) {
		t.Errorf("ReadConf of a missing file: %v", err)
	}
}
