//go:build linux

package networks_test

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"gocker/final/internal/networks"
	"gocker/step01-pull/shared/testenv"
)

// hostResolver makes a resolver at an address of the host, which /etc/resolv.conf names from now on. It answers each question for
// an IPv4 address with 198.51.100.1.
func hostResolver(t *testing.T, address string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", net.JoinHostPort(address, "53"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		for query := make([]byte, 512); ; {
			n, from, err := conn.ReadFrom(query)
			if err != nil {
				return
			}
			end := 12
			for end < n && query[end] != 0 { // the labels of the name
				end += int(query[end]) + 1
			}
			end += 5
			reply := append(slices.Clone(query[:2]), 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0) // RFC 1035, 4.1.1
			reply = append(reply, query[12:end]...)
			if query[end-3] == 1 {
				reply[7] = 1
				reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 51, 100, 1)
			}
			conn.WriteTo(reply, from)
		}
	}()
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver "+address+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(file, "/etc/resolv.conf", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount("/etc/resolv.conf", unix.MNT_DETACH) })
}

func TestAResolverThatOnlyTheHostReachesAnswersContainers(t *testing.T) {
	testenv.NeedRoot(t)
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range []string{"127.0.0.53", "fd99::53"} {
		t.Run(address, func(t *testing.T) {
			s := store(t)
			if addr := netip.MustParseAddr(address); addr.Is6() {
				own := &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(128, 128)}, Flags: unix.IFA_F_NODAD}
				if err := netlink.AddrAdd(lo, own); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { netlink.AddrDel(lo, own) })
			}
			hostResolver(t, address)
			if !networks.NeedsResolver(on(networks.Default).Wants, nil) {
				t.Errorf("a container on the default network does not need the resolver, want that it does")
			}
			if networks.NeedsResolver(on(networks.Default).Wants, []string{"192.0.2.1"}) {
				t.Errorf("a container with --dns on the default network needs the resolver, want that it does not")
			}
			c := run(t, s, "aaaaaaaaaaaa", on(networks.Default))
			if found, err := names(t, c).LookupHost(t.Context(), "example.com."); err != nil || !slices.Equal(found, []string{"198.51.100.1"}) {
				t.Errorf("example.com is %q, %v: want what the host's resolver says", found, err)
			}
		})
	}
}
