//go:build linux

package networks_test

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"gocker/final/internal/networks"
)

func TestAContainerThatIsConnectedAndRenamedIsFoundAtOnce(t *testing.T) {
	s := store(t)
	app := create(t, s, networks.Network{Name: "app"})
	web, late := run(t, s, "aaaaaaaaaaaa", on("app")), run(t, s, "bbbbbbbbbbbb", on(networks.Default))
	still := func() error { return nil }
	if err := s.Connect("bbbbbbbbbbbb", late.Pid, networks.Want{Name: "app", Aliases: []string{"db"}}, []string{"late"}, still); err != nil {
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
	err := s.Connect("aaaaaaaaaaaa", c.Pid, networks.Want{Name: "app"}, nil, func() error {
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
