//go:build linux

package published_test

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"gocker/final/internal/published"
	"gocker/step01-pull/shared/testenv"
	"gocker/step04-overlay/check"
)

// onThread runs f on a thread that ends with it, and so may change what threads have of their own.
func onThread(f func()) {
	check.OnThread(func() error {
		f()
		return nil
	})
}

// machine is a network namespace with a cable to the host, and a socket of UDP there.
func machine(t *testing.T, name, host, there string, udpPort int) *net.UDPConn {
	t.Helper()
	var socket *net.UDPConn
	up := func(device, prefix string) error {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr(prefix)
		if err == nil {
			addr.Flags = unix.IFA_F_NODAD // it can be used at once
			err = netlink.AddrAdd(link, addr)
		}
		if err == nil {
			err = netlink.LinkSetUp(link)
		}
		return err
	}
	ready, made := make(chan int), make(chan error)
	go onThread(func() {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			made <- err
			return
		}
		ready <- unix.Gettid()
		<-ready
		err := up("there", there)
		if err == nil {
			err = netlink.RouteAdd(&netlink.Route{Gw: net.IP(netip.MustParsePrefix(host).Addr().AsSlice())})
		}
		if err == nil {
			address := &net.UDPAddr{IP: net.IP(netip.MustParsePrefix(there).Addr().AsSlice()), Port: udpPort}
			socket, err = net.ListenUDP("udp", address)
		}
		made <- err
	})
	var err error
	select {
	case err = <-made:
	case tid := <-ready:
		cable := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: "there", PeerNamespace: netlink.NsPid(tid)}
		cable.Name = name
		if err = netlink.LinkAdd(cable); err == nil {
			err = up(name, host)
		}
		ready <- 0
		if e := <-made; err == nil {
			err = e
		}
	}
	if err != nil {
		t.Fatalf("machine %s: %v", name, err)
	}
	t.Cleanup(func() {
		socket.Close()
		if link, err := netlink.LinkByName(name); err == nil {
			netlink.LinkDel(link)
		}
	})
	return socket
}

func nft(t *testing.T, script string) {
	t.Helper()
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
}

// gets tells whether one of the next datagrams reaches a socket.
func gets(socket *net.UDPConn, within time.Duration) bool {
	socket.SetReadDeadline(time.Now())
	for buffer := make([]byte, 100); ; { // those of before
		if _, _, err := socket.ReadFrom(buffer); err != nil {
			break
		}
	}
	socket.SetReadDeadline(time.Now().Add(within))
	_, _, err := socket.ReadFrom(make([]byte, 100))
	return err == nil
}

// A client goes on to send from one port, as a phone or a game does: while nothing is published, then to a container, and then
// to the one after it.
func TestAClientOfUDPThatGoesOnReachesTheContainerThatIsThereNow(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Needs(t, "nft")
	for _, tt := range []struct{ family, host, one, two, client string }{
		{"ip", "203.0.113.1/24", "10.83.1.2/24", "10.83.2.2/24", "203.0.113.7/24"},
		{"ip6", "2001:db8::1/64", "fd83:1::2/64", "fd83:2::2/64", "2001:db8::7/64"},
	} {
		t.Run(tt.family, func(t *testing.T) {
			all, forwarding, router := "0.0.0.0:5353", "/proc/sys/net/ipv4/ip_forward", func(s string) string { return strings.Replace(s, ".2/", ".1/", 1) }
			if tt.family == "ip6" {
				all, forwarding, router = "[::]:5353", "/proc/sys/net/ipv6/conf/all/forwarding", func(s string) string { return strings.Replace(s, "::2/", "::1/", 1) }
			}
			write(t, forwarding, "1")
			one := machine(t, "one", router(tt.one), tt.one, 53)
			two := machine(t, "two", router(tt.two), tt.two, 53)
			client := machine(t, "out", tt.host, tt.client, 4000)
			host, toOne, toTwo := ip(tt.host), ip(tt.one), ip(tt.two)
			publish := func(to netip.Addr) {
				target := netip.AddrPortFrom(to, 53)
				nft(t, fmt.Sprintf(`table inet test
delete table inet test
table inet test {
	chain prerouting {
		type nat hook prerouting priority dstnat
		fib daddr type local udp dport 5353 dnat %s to %s
	}
}
`, tt.family, target))
			}
			// The kernel tracks connections from the first rule on that asks for it.
			nft(t, "table inet test {\n chain prerouting {\n type nat hook prerouting priority dstnat\n ct state new accept\n }\n }\n")
			t.Cleanup(func() { nft(t, "delete table inet test") })
			stop := make(chan struct{})
			defer close(stop)
			go func() {
				to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(host, 5353))
				for {
					select {
					case <-stop:
						return
					case <-time.After(50 * time.Millisecond):
						client.WriteTo([]byte("x"), to)
					}
				}
			}()
			gets(one, 300*time.Millisecond)

			p := published.Port{Host: netip.MustParseAddrPort(all), Protocol: "udp", To: netip.AddrPortFrom(toOne, 53)}
			forget := func(ports []published.Port, addrs ...netip.Addr) {
				if err := published.Forget(ports, addrs...); err != nil {
					t.Fatalf("Forget = %v", err)
				}
			}
			publish(toOne)
			if gets(one, 300*time.Millisecond) {
				t.Error("a client of before reaches the container without Forget: what is it for?")
			}
			forget([]published.Port{p})
			if !gets(one, 5*time.Second) {
				t.Error("after the port is published, the client's datagrams do not reach the container")
			}
			publish(toTwo)
			if gets(two, 300*time.Millisecond) {
				t.Error("the client reaches the second container without Forget: what is it for?")
			}
			forget(nil, toOne) // the end of the first container
			if !gets(two, 5*time.Second) {
				t.Error("the client's datagrams do not reach the second container")
			}
			publish(toOne)
			forget([]published.Port{p})
			if !gets(one, 5*time.Second) {
				t.Error("the client's datagrams do not reach the third container")
			}
			// A port of one address of the host, and not of all.
			publish(toTwo)
			p.Host = netip.AddrPortFrom(host, 5353)
			forget([]published.Port{p})
			if !gets(two, 5*time.Second) {
				t.Error("the client's datagrams to one address do not reach the fourth container")
			}
		})
	}
}

func ip(prefix string) netip.Addr { return netip.MustParsePrefix(prefix).Addr() }

func write(t *testing.T, file, content string) {
	t.Helper()
	if out, err := exec.Command("sh", "-c", "echo "+content+" >"+file).CombinedOutput(); err != nil {
		t.Fatalf("write %s: %v: %s", file, err, out)
	}
}
