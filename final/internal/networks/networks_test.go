//go:build linux

package networks_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"gocker/final/internal/networks"
	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/testenv"
	"gocker/step04-overlay/check"
	"gocker/step04-overlay/testroot"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/network"
	"gocker/step05-namespaces/terminal"
)

// TestMain runs the tests in a network namespace that stands for the host.
func TestMain(m *testing.M) { os.Exit(testroot.Run(m)) }

func store(t *testing.T) networks.Store {
	testenv.NeedRoot(t)
	s := networks.Store{Dirs: dirs.Dirs{Root: t.TempDir(), Run: t.TempDir()}}
	t.Cleanup(func() {
		all, err := s.List()
		for _, n := range all {
			if n.Name != networks.Default {
				_, rmErr := s.Remove(n.Name)
				err = errors.Join(err, rmErr)
			}
		}
		if err := errors.Join(err, s.Rest()); err != nil {
			t.Errorf("remove all networks: %v", err)
		}
		if left := devices(t); !slices.Equal(left, []string{"lo"}) {
			t.Errorf("devices %s are left, want lo only", left)
		}
	})
	return s
}

// devices are the host's, but for those that some kernels have in each namespace.
func devices(t *testing.T) (names []string) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		links, err := netlink.LinkList()
		if err != nil {
			t.Fatal(err)
		}
		names = nil
		for _, link := range links {
			if name := link.Attrs().Name; name == "lo" || strings.HasPrefix(name, "veth") || strings.HasPrefix(name, "gk") || strings.HasPrefix(name, "test") {
				names = append(names, name)
			}
		}
		// The kernel takes cables away some time after the last process of a namespace.
		if !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "veth") }) || time.Now().After(deadline) {
			return names
		}
	}
}

func create(t *testing.T, s networks.Store, n networks.Network) networks.Network {
	t.Helper()
	n, err := s.Create(n)
	if err != nil {
		t.Fatalf("Create = %v", err)
	}
	return n
}

// A container is one whose command begins only where it is started.
type container struct {
	*namespaces.Process
	networks.Attachment
}

func (c container) addr() netip.Addr { return c.Endpoints[0].Addrs[0].Addr() }

func attach(t *testing.T, s networks.Store, r networks.Request) (*networks.Attachment, error) {
	if err := os.MkdirAll(s.Dirs.Container(r.Container), 0o700); err != nil {
		return nil, err
	}
	return s.Attach(t.Context(), r)
}

func run(t *testing.T, s networks.Store, id string, r networks.Request) container {
	t.Helper()
	r.Container, r.Names = id, append([]string{id}, r.Names...)
	a, err := attach(t, s, r)
	if err != nil {
		t.Fatalf("Attach = %v", err)
	}
	f := testroot.Mount(t)
	spec := namespaces.Spec(f.Mnt(), "c", []string{"sleep", "1000"})
	p, err := namespaces.Create(spec, terminal.New(spec.Process, terminal.Stdio{}), a.Part())
	if err != nil {
		t.Fatalf("Create = %v", errors.Join(err, a.Leave()))
	}
	a.Serve()
	t.Cleanup(func() {
		p.Abort()
		if err := a.Leave(); err != nil {
			t.Errorf("Leave = %v", err)
		}
	})
	return container{p, *a}
}

func on(names ...string) networks.Request {
	var r networks.Request
	for _, name := range names {
		r.Wants = append(r.Wants, networks.Want{Name: name})
	}
	return r
}

func inside(t *testing.T, c container, do func() error) {
	t.Helper()
	if err := inNetworkOf(c.Pid, do); err != nil {
		t.Error(err)
	}
}

func inNetworkOf(pid int, do func() error) error {
	return check.OnThread(func() error {
		ns, err := netns.GetFromPid(pid)
		if err != nil {
			return err
		}
		defer ns.Close()
		if err := netns.Set(ns); err != nil {
			return err
		}
		return do()
	})
}

// names has the resolver of a container answer.
func names(t *testing.T, c container) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, kind, _ string) (conn net.Conn, err error) {
		inside(t, c, func() error {
			conn, err = net.Dial(kind, networks.ResolverAddr+":53")
			return err
		})
		return conn, err
	}}
}

func TestContainersFindEachOtherByName(t *testing.T) {
	s := store(t)
	create(t, s, networks.Network{Name: "app", IPv6: true})
	web := run(t, s, "0123456789ab", on("app"))
	r := on("app")
	r.Names, r.Wants[0].Aliases = []string{"db", "host-of-db"}, []string{"postgres"}
	db := run(t, s, "ba9876543210", r)
	resolver := names(t, web)
	want := fmt.Sprint(db.Endpoints[0].Addrs[0].Addr(), " ", db.Endpoints[0].Addrs[1].Addr())
	for _, name := range []string{"db", "DB", "host-of-db", "postgres", "ba9876543210", "db.app"} {
		found, err := resolver.LookupHost(t.Context(), name+".")
		slices.Sort(found)
		if got := strings.Join(found, " "); err != nil || got != want {
			t.Errorf("%s is %q, %v: want %q", name, got, err, want)
		}
	}
	if got, err := resolver.LookupAddr(t.Context(), db.addr().String()); err != nil || !slices.Contains(got, "ba9876543210.app.") {
		t.Errorf("%s is %q, %v: want its name", db.addr(), got, err)
	}
	db.Abort()
	if err := db.Leave(); err != nil {
		t.Error(err)
	}
	if found, err := resolver.LookupHost(t.Context(), "db."); err == nil {
		t.Errorf("db is %q after its end, want an error", found)
	}
}

func TestNetworksDoNotReachEachOther(t *testing.T) {
	s := store(t)
	create(t, s, networks.Network{Name: "one"})
	create(t, s, networks.Network{Name: "two"})
	a, b, c := run(t, s, "aaaaaaaaaaaa", on("one")), run(t, s, "bbbbbbbbbbbb", on("one")), run(t, s, "cccccccccccc", on("two"))
	l, err := network.Listen(a.Pid, a.addr())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got, err := l.Ask(b.Pid); err != nil || got != b.addr().String() {
		t.Errorf("a neighbour is %q, %v: want %s", got, err, b.addr())
	}
	if got, err := l.Ask(c.Pid); err == nil {
		t.Errorf("somebody on another network got through, as %q", got)
	}
}

// outside is another machine, which knows no route to a container, and asks a port of the host's address 203.0.113.1.
func outside(t *testing.T, s networks.Store) container {
	f := testroot.Mount(t)
	spec := namespaces.Spec(f.Mnt(), "c", []string{"sleep", "1000"})
	p, err := namespaces.Create(spec, terminal.New(spec.Process, terminal.Stdio{}))
	if err != nil {
		t.Fatal(err)
	}
	uplink := network.Uplink{Device: "testup", Host: netip.MustParsePrefix("203.0.113.1/24"), There: netip.MustParsePrefix("203.0.113.7/24")}
	if err := uplink.Plug(p.Pid); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Abort()
		if err := (network.Cable{Host: "testup"}).Pull(); err != nil {
			t.Error(err)
		}
	})
	return container{Process: p}
}

// answerAt has a container answer with the address that it sees, by TCP and UDP, at port 80.
func answerAt(t *testing.T, c container) {
	inside(t, c, func() error {
		tcp, err := net.Listen("tcp", ":80")
		if err != nil {
			return err
		}
		udp, err := net.ListenPacket("udp", ":80")
		if err != nil {
			return err
		}
		t.Cleanup(func() { tcp.Close(); udp.Close() })
		go func() {
			for {
				conn, err := tcp.Accept()
				if err != nil {
					return
				}
				host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
				fmt.Fprint(conn, host)
				conn.Close()
			}
		}()
		go func() {
			for buf := make([]byte, 100); ; {
				_, from, err := udp.ReadFrom(buf)
				if err != nil {
					return
				}
				host, _, _ := net.SplitHostPort(from.String())
				udp.WriteTo([]byte(host), from)
			}
		}()
		return nil
	})
}

// ask returns what comes back from an address, to somebody in the network namespace of c; nil is the host.
func ask(t *testing.T, c *container, kind, address string) (answer string, err error) {
	do := func() error {
		conn, err := net.DialTimeout(kind, address, 2*time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(2 * time.Second))
		if kind == "udp" {
			fmt.Fprint(conn, "who am I?")
		}
		buf := make([]byte, 100)
		n, err := conn.Read(buf)
		answer = string(buf[:n])
		return err
	}
	if c == nil {
		return answer, do()
	}
	return answer, inNetworkOf(c.Pid, do)
}

func TestAPublishedPortAnswersFromEverywhere(t *testing.T) {
	s := store(t)
	create(t, s, networks.Network{Name: "app", IPv6: true})
	r := on("app")
	r.Publish = []networks.Publish{{First: 8080, Port: 80, Protocol: "tcp"}, {First: 8080, Port: 80, Protocol: "udp"}}
	web, neighbour := run(t, s, "aaaaaaaaaaaa", r), run(t, s, "bbbbbbbbbbbb", on("app"))
	stranger, machine := run(t, s, "cccccccccccc", on(networks.Default)), outside(t, s)
	answerAt(t, web)
	gateway := web.Endpoints[0].Routers[0].String()
	for _, tt := range []struct {
		name    string
		from    *container
		address string
		want    string // who asks, as the container sees it
	}{
		{"another machine", &machine, "203.0.113.1:8080", "203.0.113.7"},
		{"the host", nil, "203.0.113.1:8080", "203.0.113.1"},
		{"the host", nil, "127.0.0.1:8080", gateway},
		{"the host", nil, "[::1]:8080", web.Endpoints[0].Routers[1].String()},
		{"a neighbour by the host's address", &neighbour, "203.0.113.1:8080", gateway},
		{"a container of another network by the host's address", &stranger, "203.0.113.1:8080", gateway},
		{"the container itself", &web, "203.0.113.1:8080", gateway},
		{"a neighbour", &neighbour, web.addr().String() + ":80", neighbour.addr().String()},
		{"the host at the container's address", nil, web.addr().String() + ":80", gateway},
		{"a container of another network", &stranger, web.addr().String() + ":80", ""},
	} {
		for _, kind := range []string{"tcp", "udp"} {
			if got, err := ask(t, tt.from, kind, tt.address); got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("%s at %s by %s: the container sees %q, %v, want %q", tt.name, tt.address, kind, got, err, tt.want)
			}
		}
	}
	// Another machine may have a route to the container's address: what is not published stays closed.
	inside(t, machine, func() error {
		return netlink.RouteAdd(&netlink.Route{Dst: &net.IPNet{IP: web.addr().AsSlice(), Mask: net.CIDRMask(32, 32)}, Gw: net.IPv4(203, 0, 113, 1)})
	})
	if got, err := ask(t, &machine, "tcp", web.addr().String()+":80"); err == nil {
		t.Errorf("a port that is not published answers another machine: %q", got)
	}
	_, err := attach(t, s, networks.Request{Container: "dddddddddddd", Names: []string{"d"}, Wants: on("app").Wants, Publish: r.Publish[:1]})
	if err == nil || !strings.Contains(err.Error(), "port 8080/tcp of the host is taken: by container aaaaaaaaaaaa") {
		t.Errorf("Attach with a port that is taken = %v, want its container's name", err)
	}
	if endpoints, err := s.Of("dddddddddddd"); len(endpoints) > 0 || err != nil {
		t.Errorf("after that it has %v, %v", endpoints, err)
	}
}

func TestNothingLeavesAnInternalNetwork(t *testing.T) {
	s := store(t)
	create(t, s, networks.Network{Name: "inner", Internal: true})
	a, machine := run(t, s, "aaaaaaaaaaaa", on("inner")), outside(t, s)
	answerAt(t, machine)
	// Not even by a route of its own.
	inside(t, a, func() error {
		return netlink.RouteAdd(&netlink.Route{Gw: a.Endpoints[0].Addrs[0].Masked().Addr().Next().AsSlice()})
	})
	if got, err := ask(t, &a, "tcp", "203.0.113.7:80"); err == nil {
		t.Errorf("it reached another machine, which saw %q", got)
	}
	if _, err := names(t, a).LookupHost(t.Context(), "example.com."); err == nil {
		t.Error("a name of the world was answered")
	}
}

func TestSubnetsOverlapNothing(t *testing.T) {
	s := store(t)
	if err := (network.Switch{Name: "test0", Addrs: []netip.Prefix{netip.MustParsePrefix("172.17.5.1/24")}}).Make(); err != nil {
		t.Fatal(err)
	}
	defer network.Switch{Name: "test0"}.Remove()
	first := create(t, s, networks.Network{Name: "one"})
	second := create(t, s, networks.Network{Name: "two"})
	if got, want := fmt.Sprint(first.Subnets[0].Subnet, second.Subnets[0].Subnet), "172.18.0.0/16 172.19.0.0/16"; got != want {
		t.Errorf("subnets are %s, want %s: the host has an address in 172.17.0.0/16", got, want)
	}
	for _, tt := range []struct {
		subnet networks.Subnet
		want   string
	}{
		{networks.Subnet{Subnet: netip.MustParsePrefix("172.17.5.128/25")}, "overlaps"},
		{networks.Subnet{Subnet: netip.MustParsePrefix("172.0.0.0/8")}, "overlaps"},
		{networks.Subnet{Subnet: netip.MustParsePrefix("172.18.3.0/24")}, "overlaps"},
		{networks.Subnet{Subnet: netip.MustParsePrefix("10.1.2.3/24")}, "begins at 10.1.2.0"},
		{networks.Subnet{Subnet: netip.MustParsePrefix("10.1.2.0/31")}, "no room"},
		{networks.Subnet{Subnet: netip.MustParsePrefix("127.1.0.0/16")}, "cannot have these"},
		{networks.Subnet{Subnet: netip.MustParsePrefix("10.1.0.0/16"), Gateway: netip.MustParseAddr("10.2.0.1")}, "not in it"},
		{networks.Subnet{Subnet: netip.MustParsePrefix("10.1.0.0/16"), Range: netip.MustParsePrefix("10.2.0.0/24")}, "not in it"},
		{networks.Subnet{Subnet: netip.MustParsePrefix("fd00::/64")}, "IPv6"},
	} {
		_, err := s.Create(networks.Network{Name: "bad", Subnets: []networks.Subnet{tt.subnet}})
		if !errors.Is(err, networks.ErrSubnet) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Create with %+v = %v, want %q", tt.subnet, err, tt.want)
		}
	}
	if all, err := s.List(); len(all) != 2 || err != nil {
		t.Errorf("List = %v, %v: want two", all, err)
	}
}

func TestAnAddressIsGivenOnce(t *testing.T) {
	s := store(t)
	create(t, s, networks.Network{Name: "small", Subnets: []networks.Subnet{{
		Subnet: netip.MustParsePrefix("10.9.0.0/29"), Aux: map[string]netip.Addr{"printer": netip.MustParseAddr("10.9.0.3")},
	}}})
	attach := func(id string, ip string) (*networks.Attachment, error) {
		want := networks.Want{Name: "small"}
		if ip != "" {
			want.IP = netip.MustParseAddr(ip)
		}
		return s.Attach(t.Context(), networks.Request{Container: id, Names: []string{id}, Wants: []networks.Want{want}})
	}
	var all []*networks.Attachment
	for i, tt := range []struct{ ip, want string }{{"", "10.9.0.2"}, {"10.9.0.4", "10.9.0.4"}, {"", "10.9.0.5"}, {"", "10.9.0.6"}} {
		a, err := attach(strings.Repeat(fmt.Sprint(i), 12), tt.ip)
		if err != nil || a.Endpoints[0].Addrs[0].Addr().String() != tt.want {
			t.Fatalf("Attach(%q) = %v, %v, want %s", tt.ip, a, err, tt.want)
		}
		all = append(all, a)
	}
	for _, ip := range []string{"", "10.9.0.4", "10.9.0.1", "10.9.0.3", "10.9.0.7", "10.9.0.0", "10.9.1.2"} {
		if _, err := attach("eeeeeeeeeeee", ip); !errors.Is(err, networks.ErrAddress) {
			t.Errorf("Attach(%q) = %v, want ErrAddress", ip, err)
		}
	}
	if _, err := s.Remove("small"); !errors.Is(err, networks.ErrUsed) {
		t.Errorf("Remove of a network in use = %v, want ErrUsed", err)
	}
	for _, a := range all {
		if err := a.Leave(); err != nil {
			t.Error(err)
		}
	}
}

func TestANetworkIsMadeToTheEndThoughItsMakerWasKilled(t *testing.T) {
	s := store(t)
	create(t, s, networks.Network{Name: "other"}) // so there are rules
	n := create(t, s, networks.Network{Name: "half", IPv6: true})
	if err := (network.Switch{Name: n.Device}).Remove(); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: n.Device}}); err != nil { // so far it came
		t.Fatal(err)
	}
	a, machine := run(t, s, "aaaaaaaaaaaa", on("half")), outside(t, s)
	answerAt(t, machine)
	if got, err := ask(t, &a, "tcp", "203.0.113.7:80"); got != "203.0.113.1" || err != nil {
		t.Errorf("another machine sees %q, %v, want 203.0.113.1", got, err)
	}
}

func TestAFileThatWasNotCompleteKeepsNoNetwork(t *testing.T) {
	s := store(t)
	n := create(t, s, networks.Network{Name: "app"})
	folder := filepath.Join(s.Dirs.Run, "networks", n.ID)
	if err := errors.Join(os.MkdirAll(folder, 0o700), os.WriteFile(filepath.Join(folder, "aaaaaaaaaaaa.json.new"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove("app"); err != nil {
		t.Errorf("Remove = %v", err)
	}
}

func TestANetworkIsRemovedWhileContainersCome(t *testing.T) {
	s := store(t)
	var all sync.WaitGroup
	var came, gone atomic.Int32
	for i := range 8 {
		all.Go(func() {
			for range 25 {
				r := on("app", networks.Default)
				r.Container = fmt.Sprintf("%012d", i)
				r.Names = []string{r.Container}
				r.Publish = []networks.Publish{{Port: 80, Protocol: "udp"}}
				a, err := attach(t, s, r)
				if errors.Is(err, networks.ErrNoNetwork) {
					_, err = s.Create(networks.Network{Name: "app"})
					if errors.Is(err, networks.ErrTaken) {
						err = nil
					}
				} else if err == nil {
					came.Add(1)
					err = a.Leave()
				}
				if err != nil {
					t.Error(err)
				}
				if _, err := s.Remove("app"); err == nil {
					gone.Add(1)
				} else if !errors.Is(err, networks.ErrUsed) && !errors.Is(err, networks.ErrNoNetwork) {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d containers came, and the network was removed %d times", came.Load(), gone.Load())
	if left, err := filepath.Glob(filepath.Join(s.Dirs.Run, "networks", "*", "*")); len(left) > 0 || err != nil {
		t.Errorf("places are left: %q, %v", left, err)
	}
}

// The rule is the one that docs/network.md names.
func TestAUsersRuleForAPublishedPortHolds(t *testing.T) {
	s := store(t)
	testenv.Needs(t, "nft")
	r := on(networks.Default)
	r.Publish = []networks.Publish{{First: 8080, Port: 80, Protocol: "tcp"}}
	web, machine := run(t, s, "aaaaaaaaaaaa", r), outside(t, s)
	answerAt(t, web)
	if got, err := ask(t, &machine, "tcp", "203.0.113.1:8080"); err != nil {
		t.Fatalf("without a rule: %q, %v", got, err)
	}
	t.Cleanup(func() { exec.Command("nft", "delete", "table", "inet", "mine").Run() })
	for _, rule := range []string{
		"add table inet mine", "add chain inet mine forward { type filter hook forward priority 0; }",
		"add rule inet mine forward meta l4proto tcp ct original proto-dst 8080 ip saddr != 198.51.100.0/24 drop",
	} {
		if out, err := exec.Command("nft", rule).CombinedOutput(); err != nil {
			t.Fatalf("nft %s: %v\n%s", rule, err, out)
		}
	}
	if got, err := ask(t, &machine, "tcp", "203.0.113.1:8080"); err == nil {
		t.Errorf("with the rule another machine still gets through: %q", got)
	}
	if _, err := ask(t, nil, "tcp", "127.0.0.1:8080"); err != nil {
		t.Errorf("the host at its loopback address: %v", err)
	}
}
