//go:build linux

package rootless

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"gocker/final/internal/enter"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/usernamespace"
	"gocker/step04-overlay/check"
)

// A user may change nothing in the machine's network namespace. So a user's networks are in another one, and what root does in the
// machine's is done there: bridges, cables, rules. It is made when it is needed first, and is a mount in the user's mount namespace,
// so it ends with that:
//
//	{run}/uplink/netns    the network namespace is mounted here
//	{run}/uplink/program  the process that connects it with the machine's: see Uplink
//
// gocker stays in the machine's network namespace: it listens there for published ports, asks resolvers from there, and
// --network host is that one. Only threads go into the other, as no way leads back.

// ErrNetworks says that this process can neither have networks where it is, nor elsewhere.
var ErrNetworks = advice.Add(errors.New("this user namespace is not gocker's, and has no network namespace: it has no networks, not the network bridge either"),
	"say --network none, or --network host; or start gocker as an ordinary user, outside of it")

// Apart tells whether the networks are in a namespace of the user's: neither for root, nor in a network namespace that belongs to
// this user namespace.
func Apart() bool { return apart() }

var apart = sync.OnceValue(func() bool { return usernamespace.Inside() && !ownsNetwork() })

// ownsNetwork tells whether the network namespace that the process is in belongs to its user namespace: see ioctl_nsfs(2).
func ownsNetwork() bool {
	var own, owner unix.Stat_t
	ns, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return false
	}
	defer ns.Close()
	fd, err := unix.IoctlRetInt(int(ns.Fd()), unix.NS_GET_USERNS)
	if err != nil {
		return false // it is of a namespace that is not to be seen here
	}
	defer unix.Close(fd)
	return unix.Fstat(fd, &owner) == nil && unix.Stat("/proc/self/ns/user", &own) == nil && own.Ino == owner.Ino
}

// CheckNetworks is ErrNetworks where there are none.
func CheckNetworks() error {
	if !Apart() {
		return nil
	}
	var held, lock unix.Stat_t
	if unix.Fstat(enter.Highest, &held) == nil && unix.Stat(enter.LockName(dirs.Default().Run), &lock) == nil && held.Ino == lock.Ino && held.Dev == lock.Dev {
		return nil
	}
	return ErrNetworks
}

// InNetwork calls do where the networks are. For a user that is on a thread that ends with it.
func InNetwork(do func() error) error {
	if !Apart() {
		return do()
	}
	if err := CheckNetworks(); err != nil {
		return err
	}
	return check.OnThread(func() error {
		if err := enterNetwork(); err != nil {
			return fmt.Errorf("the user's network namespace: %w", err)
		}
		return do()
	})
}

func uplinkFile(name string) string { return filepath.Join(dirs.Default().Run, "uplink", name) }

// enterNetwork takes the calling thread into the network namespace, which it makes where there is none.
func enterNetwork() error {
	entered, err := joinNetwork()
	if entered || err != nil {
		return err
	}
	lock, err := dirs.Lock(uplinkFile(""))
	if err != nil {
		return err
	}
	defer lock.Close()
	if entered, err := joinNetwork(); entered || err != nil { // somebody was faster
		return err
	}
	return makeNetwork()
}

func joinNetwork() (entered bool, err error) {
	ns, err := os.Open(uplinkFile("netns"))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer ns.Close()
	var is unix.Statfs_t
	if err := unix.Fstatfs(int(ns.Fd()), &is); err != nil || is.Type != unix.NSFS_MAGIC { // the file that it was mounted on
		return false, err
	}
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return false, fmt.Errorf("join %s: %w", ns.Name(), err)
	}
	return true, nil
}

// makeNetwork makes a network namespace, and the calling thread is in it.
func makeNetwork() error {
	file := uplinkFile("netns")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return err
	}
	if err := os.Remove(uplinkFile("program")); err != nil && !errors.Is(err, os.ErrNotExist) { // it was for the one before
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make it: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	if err := unix.Mount("/proc/thread-self/ns/net", file, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount it on %s: %w", file, err)
	}
	return nil
}

// HostAddr is an address of the machine, by which containers of a user reach what it serves; the zero one if it has none.
func HostAddr() netip.Addr {
	addrs, _ := net.InterfaceAddrs()
	for _, addr := range addrs {
		if prefix, err := netip.ParsePrefix(addr.String()); err == nil && prefix.Addr().Is4() && prefix.Addr().IsGlobalUnicast() {
			return prefix.Addr()
		}
	}
	return netip.Addr{}
}
