//go:build linux

package network_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/testenv"
	"gocker/step04-overlay/story"
	"gocker/step04-overlay/testroot"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/network"
	"gocker/step05-namespaces/terminal"
)

func TestMain(m *testing.M) { os.Exit(testroot.Run(m)) }

var bridge = network.Bridge{Name: "test0", Addr: netip.MustParsePrefix("10.83.0.1/24")}

func made(t *testing.T) network.Bridge {
	testenv.NeedRoot(t)
	if err := bridge.Make(); err != nil {
		t.Fatalf("Make = %v", err)
	}
	t.Cleanup(func() {
		if err := bridge.Remove(); err != nil {
			t.Errorf("Remove = %v", err)
		}
		left := devices(t)
		for deadline := time.Now().Add(10 * time.Second); left != "lo" && time.Now().Before(deadline); left = devices(t) {
			time.Sleep(10 * time.Millisecond) // the kernel takes those of a namespace away some time after its last process
		}
		if left != "lo" {
			t.Errorf("devices %s are left, want lo only", left)
		}
	})
	return bridge
}

// devices are the host's, but for those that some kernels have in each namespace.
func devices(t *testing.T) string {
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, link := range links {
		if name := link.Attrs().Name; name == "lo" || strings.HasPrefix(name, "test") || strings.HasPrefix(name, "veth") {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

// process is a container whose command never begins.
func process(t *testing.T, parts ...namespaces.Part) *namespaces.Process {
	f := testroot.Mount(t)
	spec := namespaces.Spec(f.Mnt(), "c", []string{"true"})
	p, err := namespaces.Create(spec, terminal.New(spec.Process, terminal.Stdio{}), parts...)
	if err != nil {
		t.Fatalf("Create = %v", err)
	}
	t.Cleanup(p.Abort)
	return p
}

// container is one at the end of a cable.
func container(t *testing.T, ip string) *namespaces.Process {
	return process(t, bridge.Cable(netip.MustParseAddr(ip)))
}

// outside is another machine. It is no part of the bridge, and knows no route to it.
func outside(t *testing.T) network.Listener {
	machine := process(t)
	uplink := network.Uplink{Device: "testup", Host: netip.MustParsePrefix("203.0.113.1/24"), There: netip.MustParsePrefix("203.0.113.7/24")}
	if err := uplink.Plug(machine.Pid); err != nil {
		t.Fatalf("Uplink.Plug = %v", err)
	}
	return listen(t, machine, "203.0.113.7")
}

func listen(t *testing.T, p *namespaces.Process, ip string) network.Listener {
	l, err := network.Listen(p.Pid, netip.MustParseAddr(ip))
	if err != nil {
		t.Fatalf("Listen(%s) = %v", ip, err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestAPacketGoesOutAndComesBack(t *testing.T) {
	b, o := made(t), outside(t)
	p := container(t, "10.83.0.2")
	if got, err := o.Ask(p.Pid); err != nil || got != "203.0.113.1" {
		t.Errorf("Ask = %q, %v: want the host's address, 203.0.113.1", got, err)
	}
	if n, err := b.Masqueraded(); err != nil || n != 1 {
		t.Errorf("Masqueraded = %d, %v: want 1", n, err)
	}
}

func TestWithoutTheRuleNobodyKnowsWhomToAnswer(t *testing.T) {
	b, o := made(t), outside(t)
	p := container(t, "10.83.0.2")
	if err := b.Unmasquerade(); err != nil {
		t.Fatal(err)
	}
	if got, err := o.Ask(p.Pid); err == nil {
		t.Errorf("Ask = %q, want no answer: the other machine has no route to 10.83.0.2", got)
	}
}

func TestANeighbourSeesTheContainersOwnAddress(t *testing.T) {
	b := made(t)
	first, second := container(t, "10.83.0.2"), container(t, "10.83.0.3")
	o := listen(t, first, "10.83.0.2")
	if got, err := o.Ask(second.Pid); err != nil || got != "10.83.0.3" {
		t.Errorf("Ask = %q, %v: want 10.83.0.3", got, err)
	}
	if n, _ := b.Masqueraded(); n != 0 {
		t.Errorf("Masqueraded = %d: want none, as nothing left the bridge", n)
	}
}

func TestACableGoesWithItsContainer(t *testing.T) {
	made(t)
	p := container(t, "10.83.0.2")
	if got := devices(t); !strings.Contains(got, "veth") {
		t.Fatalf("devices = %s: want a cable", got)
	}
	p.Abort()
	for range 1000 { // the kernel takes a namespace apart after its last process
		if !strings.Contains(devices(t), "veth") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("devices = %s: want no cable", devices(t))
}

func TestTheHostBelievesNoRouterBehindTheBridge(t *testing.T) {
	made(t)
	got, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + bridge.Name + "/accept_ra")
	if string(got) != "0\n" || err != nil {
		t.Errorf("accept_ra = %q, %v: want 0", got, err)
	}
}

func TestWhatIsGoneAlreadyIsNoError(t *testing.T) {
	testenv.NeedRoot(t)
	for range 20 {
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "testveth"}, PeerName: "testpeer"}); err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		for _, end := range []string{"testveth", "testpeer"} { // each takes the other with it
			both.Go(func() {
				if err := (network.Cable{Host: end}).Pull(); err != nil {
					t.Errorf("Pull = %v", err)
				}
			})
		}
		both.Wait()
	}
}

func TestWhatFailsLeavesNothing(t *testing.T) {
	b := made(t)
	if err := b.Make(); !errors.Is(err, unix.EEXIST) {
		t.Errorf("a second Make = %v, want EEXIST", err)
	}
	if got, want := devices(t), "lo test0"; got != want {
		t.Errorf("devices = %s after a Make that failed, want %s", got, want)
	}
	if err := b.Plug(1<<30, netip.MustParseAddr("10.83.0.2")); err == nil {
		t.Error("Plug of no process succeeded")
	}
	if got, want := devices(t), "lo test0"; got != want {
		t.Errorf("devices = %s after a Plug that failed, want %s", got, want)
	}
	for range 2 {
		if err := b.Remove(); err != nil {
			t.Errorf("Remove = %v", err)
		}
	}
	long := network.Bridge{Name: "sixteen-letters-", Addr: b.Addr}
	if err := long.Make(); err == nil {
		t.Errorf("Make(%q) succeeded: a device has at most 15 characters", long.Name)
	}
}

func TestTheCommandsThatAreToldLayTheSameCable(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Needs(t, "ip", "nft", "nsenter")
	var host, pivot, after []string
	tell := func(l story.Line) {
		switch l.Where {
		case story.Host:
			host = append(host, l.Command)
		case story.Pivot:
			pivot = append(pivot, l.Command)
		default:
			after = append(after, l.Command)
		}
	}
	bridge.TellMake(tell)
	p := process(t, bridge.TellCable(netip.MustParseAddr("10.83.0.2"), tell))
	bridge.TellRemove(tell)
	sh := func(commands []string) {
		t.Helper()
		cmd := exec.Command("sh", "-exc", strings.Join(commands, "\n"))
		cmd.Env = append(os.Environ(), fmt.Sprint("pid=", p.Pid))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	sh(host)
	sh(pivot)
	o := outside(t)
	if got, err := o.Ask(p.Pid); err != nil || got != "203.0.113.1" {
		t.Errorf("Ask = %q, %v: want the host's address, 203.0.113.1", got, err)
	}
	if n, err := bridge.Masqueraded(); err != nil || n != 1 {
		t.Errorf("Masqueraded = %d, %v: want 1", n, err)
	}
	sh(after)
	if got := devices(t); strings.Contains(got, bridge.Name) {
		t.Errorf("devices %s are left, want no bridge", got)
	}
}
