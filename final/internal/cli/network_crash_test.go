//go:build linux

package cli_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"gocker/final/internal/engine"
	"gocker/final/internal/networks"
	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/testenv"
)

var (
	networkKills = flag.Int("network-kills", 30, "how often TestKilledAtAnyMomentNetworksLeaveNothing kills")
	crowd        = flag.Int("crowd", 24, "how many containers with ports start and stop, eight at a time")
)

// withNetworks are folders with the sample image and a network of ours beside the default one. At the end both go, and nothing of
// them is left in the kernel.
func withNetworks(t *testing.T) (dirs.Dirs, networks.Store) {
	d := withSample(t)
	s := networks.Store{Dirs: d}
	if _, err := s.Create(networks.Network{Name: "second", IPv6: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // of a test that failed halfway
		s.Remove("second")
		s.Rest()
	})
	return d, s
}

// noNetworkIsLeft looks for what containers may leave on networks, then takes the networks away and looks for what those may leave.
func noNetworkIsLeft(t *testing.T, s networks.Store) {
	t.Helper()
	noContainerIsLeft(t, s)
	mustGocker(t, s.Dirs, "system", "check")
	_, err := s.Remove("second")
	if err = errors.Join(err, s.Rest()); err != nil {
		t.Errorf("remove all networks: %v", err)
	}
	if left := devices(t, "gk"); len(left) > 0 {
		t.Errorf("bridges are left: %q", left)
	}
	tables, err := new(nftables.Conn).ListTables()
	for _, table := range tables {
		t.Errorf("table %s of nftables is left", table.Name)
	}
	if left := testenv.Ls(t, filepath.Join(s.Dirs.Run, "networks")); len(left) > 0 || err != nil {
		t.Errorf("the folder of the networks has %q, %v", left, err)
	}
}

// noContainerIsLeft looks for cables, files, rules, sockets and connections of containers.
func noContainerIsLeft(t *testing.T, s networks.Store) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); len(devices(t, "veth")) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) { // the kernel takes them away some time after the last process of a namespace
			t.Errorf("cables are left: %q", devices(t, "veth"))
			break
		}
	}
	files, err := filepath.Glob(filepath.Join(s.Dirs.Run, "networks", "*", "*"))
	if len(files) > 0 || err != nil {
		t.Errorf("places on networks are left: %q, %v", files, err)
	}
	if left := ledOn(t); len(left) > 0 {
		t.Errorf("the rules lead ports on: %q", left)
	}
	if left := open18080(t); len(left) > 0 {
		t.Errorf("sockets are left: %q", left)
	}
	flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	for _, flow := range flows {
		if flow.Forward.Protocol == unix.IPPROTO_UDP && !flow.Forward.DstIP.Equal(flow.Reverse.SrcIP) {
			t.Errorf("the kernel still leads a connection on: %v", flow)
		}
	}
}

// devices are those of the host whose names begin so.
func devices(t *testing.T, prefix string) (names []string) {
	t.Helper()
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		t.Fatal(err)
	}
	for _, link := range links {
		if strings.HasPrefix(link.Attrs().Name, prefix) {
			names = append(names, link.Attrs().Name)
		}
	}
	return names
}

// ledOn are the elements of all maps in the rules.
func ledOn(t *testing.T) (found []string) {
	t.Helper()
	var c nftables.Conn
	tables, err := c.ListTables()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		sets, err := c.GetSets(table)
		if err != nil {
			t.Fatal(err)
		}
		for _, set := range sets {
			if !set.IsMap {
				continue
			}
			elements, err := c.GetSetElements(set)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range elements {
				found = append(found, fmt.Sprintf("%s %x: %x", set.Name, e.Key, e.Val))
			}
		}
	}
	return found
}

// open18080 are the sockets of the host on port 18080 to which nobody is connected.
func open18080(t *testing.T) (found []string) {
	t.Helper()
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		raw, err := os.ReadFile("/proc/net/" + table)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(raw) {
			if field := strings.Fields(string(line)); strings.HasSuffix(field[1], ":46A0") && strings.HasSuffix(field[2], ":0000") {
				found = append(found, table+" "+field[1])
			}
		}
	}
	return found
}

// knock sends something to the published port by UDP, so that the kernel knows a connection. Nobody need answer.
func knock(s networks.Store) {
	n, err := s.Find("second")
	if err != nil {
		return
	}
	if conn, err := net.Dial("udp", net.JoinHostPort(n.Subnets[0].Gateway.String(), "18080")); err == nil {
		fmt.Fprint(conn, "hello?")
		conn.Close()
	}
}

// noAddressIsGivenTwice holds the lock of the networks, so nobody comes or goes meanwhile.
func noAddressIsGivenTwice(t *testing.T, s networks.Store) {
	lock, err := dirs.Lock(filepath.Join(s.Dirs.Run, "networks"))
	if err != nil {
		t.Error(err)
		return
	}
	defer lock.Close()
	all, err := s.List()
	if err != nil {
		t.Error(err)
	}
	has := map[netip.Addr]string{}
	for _, n := range all {
		endpoints, err := s.On(n)
		if err != nil {
			t.Error(err)
		}
		for _, e := range endpoints {
			for _, addr := range e.Addrs {
				if other := has[addr.Addr()]; other != "" {
					t.Errorf("%s and %s have the address %s", other, e.Container, addr)
				}
				has[addr.Addr()] = e.Container
			}
		}
	}
}

func TestKilledAtAnyMomentNetworksLeaveNothing(t *testing.T) {
	d, s := withNetworks(t)
	run := []string{"run", "--name", "victim", "-p", "18080:80", "-p", "18080:80/udp", "--network", "second", "--network", "bridge", "sample", "sleep", "10"}
	detached := append([]string{"run", "-d"}, run[1:]...)
	began := time.Now()
	mustGocker(t, d, append(slices.Clone(detached[:len(detached)-2]), "true")...)
	mustGocker(t, d, "rm", "-f", "victim")
	took := time.Since(began)
	for i := range many(*networkKills) {
		whom := []string{"run", "run -d", "monitor", "init", "stop", "rm", "connect", "disconnect", "network create", "network rm"}[i%10]
		cmd := gockerCommand(d, prepare(t, d, whom, run)...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rand.N(took))
		knock(s)
		switch whom {
		case "monitor":
			for _, pid := range monitors(t, d) {
				unix.Kill(pid, unix.SIGKILL)
			}
		case "init":
			killInit(t, d)
		default:
			cmd.Process.Kill()
		}
		cmd.Wait()
		mustGocker(t, d, "ps", "-a")
		noAddressIsGivenTwice(t, s)
		removeAll(t, d)
		gocker(t, d, "network", "rm", "third") // it may not be there
		nothingIsLeft(t, d)
		noContainerIsLeft(t, s)
		if t.Failed() {
			t.Fatalf("that was after killing %s", whom)
		}
	}
	// All that the victims had can be had again.
	mustGocker(t, d, detached...)
	mustGocker(t, d, "rm", "-f", "victim")
	noNetworkIsLeft(t, s)
}

// prepare returns the command that is to be killed, or that is to make what is to be killed, and does what has to be before.
func prepare(t *testing.T, d dirs.Dirs, whom string, run []string) (args []string) {
	detached := append([]string{"run", "-d"}, run[1:]...)
	switch whom {
	case "run":
		return run
	case "stop", "rm":
		mustGocker(t, d, detached...)
		knock(networks.Store{Dirs: d})
		return map[string][]string{"stop": {"stop", "-t", "0", "victim"}, "rm": {"rm", "-f", "victim"}}[whom]
	case "connect", "disconnect":
		mustGocker(t, d, detached...)
		if whom == "connect" {
			mustGocker(t, d, "network", "disconnect", "second", "victim")
		}
		return []string{"network", whom, "second", "victim"}
	case "network create", "network rm":
		if whom == "network rm" {
			mustGocker(t, d, "network", "create", "third")
		}
		return append(strings.Fields(whom), "third")
	}
	return detached
}

func killInit(t *testing.T, d dirs.Dirs) {
	e := engine.Engine{Dirs: d}
	waitFor(t, func() bool {
		states, err := e.Containers().List()
		return err == nil && len(states) > 0 && states[0].Pid > 0 && unix.Kill(states[0].Pid, unix.SIGKILL) == nil
	})
}

// removeAll removes all containers, those too that come meanwhile: a monitor that was just being started may go on without
// whoever wanted it.
func removeAll(t *testing.T, d dirs.Dirs) {
	t.Helper()
	waitFor(t, func() bool {
		ids := strings.Fields(mustGocker(t, d, "ps", "-aq"))
		if len(ids) > 0 {
			gocker(t, d, append([]string{"rm", "-f"}, ids...)...)
			return false
		}
		return len(processes(t, d)) == 0 && len(testenv.Ls(t, d.Containers())) == 0
	})
}

func TestAContainerThatIsNoMoreIsTakenOffItsNetworks(t *testing.T) {
	d, s := withNetworks(t)
	if _, err := s.Attach(t.Context(), networks.Request{Container: "0123456789ab", Wants: []networks.Want{{Name: "second"}}}); err != nil {
		t.Fatal(err)
	}
	mustGocker(t, d, "ps", "-a")
	noNetworkIsLeft(t, s)
}

func TestACrowdOfContainersWithPortsLeavesNothing(t *testing.T) {
	d, s := withNetworks(t)
	next := make(chan int)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range next {
				name, network := "crowd-"+strconv.Itoa(i), []string{"bridge", "second"}[i%2]
				output, err := gocker(t, d, "run", "-d", "--rm", "--name", name, "-p", "80", "-p", "80/udp", "--network", network, "sample", "sleep", "1000")
				if err != nil {
					t.Errorf("gocker run: %v\n%s", err, output)
				}
				noAddressIsGivenTwice(t, s)
				if output, err := gocker(t, d, "rm", "-f", name); err != nil {
					t.Errorf("gocker rm: %v\n%s", err, output)
				}
			}
		})
	}
	for i := range many(*crowd) {
		next <- i
	}
	close(next)
	all.Wait()
	nothingIsLeft(t, d)
	noNetworkIsLeft(t, s)
}

func TestARunThatWaitsForTheNetworksEndsByASignalAndLeavesNothing(t *testing.T) {
	d := withSample(t)
	for _, flags := range [][]string{{"--rm"}, {"--name", "kept"}, {"-d"}, {"-d", "--rm", "-p", "18080:80"}, {"--restart", "always"}} {
		t.Run(strings.Join(flags, " "), func(t *testing.T) {
			lock, err := dirs.Lock(filepath.Join(d.Run, "networks"))
			if err != nil {
				t.Fatal(err)
			}
			defer lock.Close()
			cmd := gockerCommand(d, append(append([]string{"run"}, flags...), "sample", "sleep", "1000")...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var folder unix.Stat_t
			if err := unix.Fstat(int(lock.Fd()), &folder); err != nil {
				t.Fatal(err)
			}
			waits := regexp.MustCompile(fmt.Sprintf(`-> FLOCK .*:%d `, folder.Ino)) // see proc_locks(5)
			waitFor(t, func() bool {
				locks, err := os.ReadFile("/proc/locks")
				return err == nil && waits.Match(locks)
			})
			cmd.Process.Signal(unix.SIGTERM)
			if cmd.Wait(); cmd.ProcessState.ExitCode() != 128+int(unix.SIGTERM) {
				t.Errorf("gocker run ended: %v, want status %d", cmd.ProcessState, 128+int(unix.SIGTERM))
			}
			nothingIsLeft(t, d)
		})
	}
}
