//go:build linux

package networks_test

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"gocker/final/internal/networks"
)

func TestAContainerThatIsConnectedAndRenamedIsFoundAtOnce(t *testing.T) {
	s := store(t)
	app := create(t, s, networks.Network{Name: "app"})
	web, late := run(t, s, "aaaaaaaaaaaa", on("app")), run(t, s, "bbbbbbbbbbbb", on(networks.Default))
	still := func() error { return nil }
	if err := s.Connect("bbbbbbbbbbbb", "bbbbbbbbbbbb", late.Pid, networks.Want{Name: "app", Aliases: []string{"db"}}, []string{"late"}, still); err != nil {
		t.Fatalf("Connect = %v", err)
	}
	for name, resolver := range map[string]container{"db.": web, "late.": web, "aaaaaaaaaaaa.": late} {
		if found, err := names(t, resolver).LookupHost(t.Context(), name); err != nil || len(found) != 1 {
			t.Errorf("%s is %q, %v: want one address", name, found, err)
		}
	}
	if err := s.Rename("bbbbbbbbbbbb", "late", "early"); err != nil {
		t.Fatalf("Rename = %v", err)
	}
	if found, err := names(t, web).LookupHost(t.Context(), "early."); err != nil || len(found) != 1 {
		t.Errorf("the new name is %q, %v: want one address", found, err)
	}
	if found, err := names(t, web).LookupHost(t.Context(), "late."); err == nil {
		t.Errorf("the former name is %q, want an error", found)
	}
	if err := s.Disconnect("bbbbbbbbbbbb", late.Pid, app); err != nil {
		t.Fatalf("Disconnect = %v", err)
	}
	if found, err := names(t, web).LookupHost(t.Context(), "db."); err == nil {
		t.Errorf("db is %q after it was disconnected, want an error", found)
	}
	if err := s.Disconnect("bbbbbbbbbbbb", late.Pid, app); !errors.Is(err, networks.ErrNotOn) {
		t.Errorf("Disconnect once more = %v, want ErrNotOn", err)
	}
}

func TestAContainerThatEndsWhileItIsConnectedLeavesNothing(t *testing.T) {
	s := store(t)
	app := create(t, s, networks.Network{Name: "app"})
	c := run(t, s, "aaaaaaaaaaaa", on(networks.Default))
	asked, ended := 0, errors.New("it has ended")
	err := s.Connect("aaaaaaaaaaaa", "aaaaaaaaaaaa", c.Pid, networks.Want{Name: "app"}, nil, func() error {
		if asked++; asked == 1 {
			return nil
		}
		return ended
	})
	if !errors.Is(err, ended) {
		t.Errorf("Connect = %v, want %v", err, ended)
	}
	if on, err := s.On(app); len(on) > 0 || err != nil {
		t.Errorf("On = %v, %v: want nobody", on, err)
	}
	if strays, err := s.Strays(func(string) bool { return true }); len(strays) > 0 || err != nil {
		t.Errorf("Strays = %v, %v: want none", strays, err)
	}
}

func TestTheDefaultRouteMovesToAnotherNetwork(t *testing.T) {
	s := store(t)
	one, two := create(t, s, networks.Network{Name: "one"}), create(t, s, networks.Network{Name: "two"})
	c := run(t, s, "aaaaaaaaaaaa", on("one", "two"))
	if err := s.Disconnect("aaaaaaaaaaaa", c.Pid, one); err != nil {
		t.Fatalf("Disconnect = %v", err)
	}
	left, err := s.Of("aaaaaaaaaaaa")
	if err != nil || len(left) != 1 || !slices.Equal(left[0].Routers, []netip.Addr{two.Subnets[0].Gateway}) {
		t.Errorf("Of = %v, %v: want a default route through %s", left, err, two.Subnets[0].Gateway)
	}
}

func TestPortsFollowTheNetworksOfAContainer(t *testing.T) {
	s := store(t)
	one, two, inner := create(t, s, networks.Network{Name: "one"}), create(t, s, networks.Network{Name: "two"}), create(t, s, networks.Network{Name: "inner", Internal: true})
	const id, port = "aaaaaaaaaaaa", "8088"
	r := on("one")
	r.Publish = []networks.Publish{{First: 8088, Last: 8088, Port: 80, Protocol: "tcp"}}
	c := run(t, s, id, r)
	if err := c.Start(); err != nil { // until then it has all files open that this process has
		t.Fatal(err)
	}
	inside(t, c, func() error {
		l, err := net.Listen("tcp", ":80")
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	})
	want := func(w networks.Want) error {
		return s.Connect(id, id, c.Pid, w, []string{id}, func() error { return nil })
	}
	connect := func(n networks.Network) error { return want(networks.Want{Name: n.Name}) }
	first := func(n networks.Network) error { return want(networks.Want{Name: n.Name, Priority: 1}) }
	disconnect := func(n networks.Network) error { return s.Disconnect(id, c.Pid, n) }
	taken := func(networks.Network) error {
		l, err := net.Listen("tcp", ":"+port)
		if err != nil {
			return err
		}
		defer l.Close()
		if err := connect(one); err == nil || !strings.Contains(err.Error(), "port 8088/tcp of the host is taken") {
			t.Errorf("Connect while another has the port = %v, want that it is taken", err)
		}
		return nil
	}
	for _, step := range []struct {
		name string
		do   func(networks.Network) error
		with networks.Network
		want string // the network that has the ports
	}{
		{"another network comes", connect, two, "one"},
		{"it goes", disconnect, two, "one"},
		{"it comes again", connect, two, "one"},
		{"the one with the ports goes", disconnect, one, "two"},
		{"another comes first", first, one, "one"},
		{"it goes again", disconnect, one, "two"},
		{"an internal one comes", connect, inner, "two"},
		{"only that is left", disconnect, two, ""},
		{"the port is another's", taken, one, ""},
		{"one comes that leads out", connect, one, "one"},
		{"none is left", disconnect, one, ""},
	} {
		if err := step.do(step.with); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
		endpoints, err := s.Of(id)
		has := ""
		for _, e := range endpoints {
			if len(e.Ports) > 0 {
				has += e.Network
			}
		}
		if err != nil || has != step.want {
			t.Errorf("%s: %q has the ports, %v: want %q", step.name, has, err, step.want)
		}
		for _, host := range []string{"127.0.0.1", "::1", inner.Subnets[0].Gateway.String()} {
			conn, err := net.DialTimeout("tcp", net.JoinHostPort(host, port), 2*time.Second)
			if err == nil {
				conn.Close()
			}
			if want := step.want != ""; (err == nil) != want {
				t.Errorf("%s: a connection to port %s of %s: %v, want one %v", step.name, port, host, err, want)
			}
		}
	}
	if on, err := s.On(one); len(on) > 0 || err != nil {
		t.Errorf("On = %v, %v: want nobody", on, err)
	}
}
