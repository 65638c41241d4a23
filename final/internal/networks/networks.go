//go:build linux

// Package networks holds the networks that connect containers: bridges, addresses, and which container has which.
package networks

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"gocker/final/internal/events"
	"gocker/final/internal/firewall"
	"gocker/final/internal/names"
	"gocker/final/internal/rootless"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step05-namespaces/network"
)

// These errors say what is wrong with a network.
var (
	ErrNoNetwork = errors.New("no such network")
	ErrUsed      = errors.New("the network is in use")
	ErrTaken     = errors.New("a network with this name is here already")
)

// Default is the network that containers are on unless they are told otherwise. It is made when it is needed first.
const Default = "bridge"

// A Network is {root}/networks/{name}/network.json: a bridge, which is made when it is needed first, as it is gone after a
// reboot.
type Network struct {
	Name     string
	ID       string // 64 hex digits
	Created  time.Time
	Device   string   // the bridge
	Subnets  []Subnet // one of IPv4, and one of IPv6 or none
	IPv6     bool
	Internal bool // nothing leads out of it
	Labels   map[string]string
	Options  map[string]string // docker's, "com.docker.network.driver.mtu"
}

// A Subnet is the addresses that a network has of one kind.
type Subnet struct {
	Subnet  netip.Prefix
	Range   netip.Prefix          `json:",omitzero"` // what containers are given; the zero one: all of the subnet
	Gateway netip.Addr            // the bridge's own
	Aux     map[string]netip.Addr `json:",omitempty"` // that others have, by their names
}

// Docker's names of the options that are known.
const (
	OptName       = "com.docker.network.bridge.name"
	OptMTU        = "com.docker.network.driver.mtu"
	OptICC        = "com.docker.network.bridge.enable_icc"
	OptMasquerade = "com.docker.network.bridge.enable_ip_masquerade"
	OptHostIP     = "com.docker.network.bridge.host_binding_ipv4" // where ports are published if nobody says
)

// A Store is the networks of one pair of folders.
//
// A network lies in {root}/networks/{name}. The run folder says which containers are on it: {run}/networks/{network's id} has a
// file for each of them, {container's id}.json. It is there from before the container's start until after its end. A process that
// changes networks, or which containers are on them, holds the lock of {run}/networks for that moment.
type Store struct{ Dirs dirs.Dirs }

func (s Store) file(name string) string  { return filepath.Join(s.folder(), name, "network.json") }
func (s Store) members(id string) string { return filepath.Join(s.running(), id) }
func (s Store) running() string          { return filepath.Join(s.Dirs.Run, "networks") }
func (s Store) lock() (*os.File, error)  { return dirs.Lock(s.running()) }

// lockUntil is lock, but waits only until ctx ends.
func (s Store) lockUntil(ctx context.Context) (*os.File, error) {
	type result struct {
		lock *os.File
		err  error
	}
	got := make(chan result)
	go func() { // nothing ends flock(2) in time but its process's end
		lock, err := s.lock()
		select {
		case got <- result{lock, err}:
		case <-ctx.Done():
			lock.Close()
		}
	}()
	select {
	case r := <-got:
		return r.lock, r.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (s Store) note(what string, n Network, more ...string) {
	events.Log{Dirs: s.Dirs}.Note("network", what, n.ID, nil, append([]string{"name", n.Name, "type", "bridge"}, more...)...)
}

// folder is {root}/networks. A root folder may belong to several pairs: then it has {root}/networks-{scope} for each.
func (s Store) folder() string {
	name := "networks"
	if scope := s.scope(); scope != "" {
		name += "-" + scope
	}
	return filepath.Join(s.Dirs.Root, name)
}

// noteOn notes that a container is on a network, or no more.
func (s Store) noteOn(what string, e Endpoint) {
	s.note(what, Network{Name: e.Network, ID: e.NetworkID}, "container", cmp.Or(e.ContainerID, e.Container))
}

// scope tells the devices and rules of several pairs of folders apart: all of them are the machine's. Root's own pair needs
// no mark. A pair that has other names by links is the same.
func (s Store) scope() string {
	own := dirs.Dirs{Root: "/var/lib/gocker", Run: "/var/run/gocker"}
	if s.Dirs == own {
		return ""
	}
	root, run := dirs.Resolve(s.Dirs.Root), dirs.Resolve(s.Dirs.Run)
	if root == dirs.Resolve(own.Root) && run == dirs.Resolve(own.Run) {
		return ""
	}
	sum := sha256.Sum256([]byte(root + "\x00" + run))
	return hex.EncodeToString(sum[:5])
}

func (s Store) table() firewall.Table {
	if scope := s.scope(); scope != "" {
		return firewall.Table("gocker-" + scope)
	}
	return "gocker"
}

// DefaultDevice is the bridge of the network that nobody has made.
func (s Store) DefaultDevice() string {
	if scope := s.scope(); scope != "" {
		return "gk0-" + scope
	}
	return "gocker0"
}

// List lists the networks by name. An error names those that cannot be read. All others are in the list.
func (s Store) List() (networks []Network, err error) {
	folders, err := dirs.Glob(s.folder(), "*")
	if err != nil {
		return nil, err
	}
	for _, folder := range folders {
		if !names.Valid(filepath.Base(folder)) {
			continue // one that is being removed
		}
		n, readErr := s.read(filepath.Base(folder))
		if readErr == nil {
			networks = append(networks, n)
		} else if !errors.Is(readErr, os.ErrNotExist) { // else it is not ready yet, or was removed a moment ago
			err = errors.Join(err, readErr)
		}
	}
	return networks, err
}

func (s Store) read(name string) (n Network, err error) {
	if err = dirs.ReadJSON(s.file(name), &n); err != nil {
		damaged := errors.Is(err, dirs.ErrDamaged)
		if err = fmt.Errorf("network %s: read its network.json: %w", name, err); damaged {
			err = advice.Add(err, "to remove it: gocker network rm %s", name)
		}
	}
	return n, err
}

// Find returns the network of this name, or else the one with this id, or else the only one whose id begins so.
func (s Store) Find(name string) (Network, error) {
	if names.Valid(name) {
		if n, err := s.read(name); !errors.Is(err, os.ErrNotExist) {
			return n, err
		}
	}
	all, err := s.List()
	if name != "" {
		all = slices.DeleteFunc(all, func(n Network) bool { return !strings.HasPrefix(n.ID, name) })
		if len(all) == 1 {
			return all[0], nil
		}
		if len(all) > 1 {
			return Network{}, fmt.Errorf("%w: %d ids begin with %q", ErrNoNetwork, len(all), name)
		}
	}
	return Network{}, errors.Join(advice.Add(fmt.Errorf("%w: %q", ErrNoNetwork, name), "to see those that are here: gocker network ls"), err)
}

// MakeDefault makes the network that nobody has to make, unless it is there.
func (s Store) MakeDefault() error {
	if _, err := s.read(Default); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	_, err := s.Create(Network{Name: Default})
	if errors.Is(err, ErrTaken) {
		err = nil // somebody else has, a moment ago
	}
	return err
}

// Create makes a network. It chooses what is empty in n: subnets that overlap no other network, route or address of the host.
func (s Store) Create(n Network) (Network, error) {
	if err := validate(n); err != nil {
		return n, err
	}
	err := s.change(func() (err error) {
		n, err = s.create(n)
		return err
	})
	return n, err
}

// change calls do under the lock, where the networks are.
func (s Store) change(do func() error) error {
	return rootless.InNetwork(func() error {
		lock, err := s.lock()
		if err != nil {
			return err
		}
		defer lock.Close()
		return do()
	})
}

// create is Create for a caller that holds the lock.
func (s Store) create(n Network) (_ Network, err error) {
	if _, err := os.Lstat(s.file(n.Name)); err == nil {
		return n, advice.Add(fmt.Errorf("%w: %s", ErrTaken, n.Name), "choose another name, or remove that one: gocker network rm %s", n.Name)
	}
	random := make([]byte, 32)
	rand.Read(random)
	n.ID, n.Created = hex.EncodeToString(random), time.Now()
	n.Device = cmp.Or(n.Options[OptName], "gk-"+n.ID[:12])
	if n.Name == Default {
		n.Device = s.DefaultDevice()
		// If the folder of networks was removed, the device that is left has the addresses of a network that nobody knows.
		if err := (network.Switch{Name: n.Device}).Remove(); err != nil {
			return n, err
		}
	}
	if n.Subnets, err = s.chooseSubnets(n); err != nil {
		return n, err
	}
	if err := s.write(n); err != nil {
		return n, err
	}
	if n.Name != Default { // a container that needs that one makes its device
		_, err := netlink.LinkByName(n.Device)
		if err == nil {
			err = fmt.Errorf("network %s: there is a device %s already", n.Name, n.Device)
		} else {
			err = s.up(&n)
		}
		if err != nil {
			return n, errors.Join(err, dirs.RemoveAll(filepath.Dir(s.file(n.Name))))
		}
	}
	s.note("create", n)
	return n, nil
}

func (s Store) write(n Network) error {
	raw, err := json.Marshal(n)
	if err != nil {
		return err
	}
	file := s.file(n.Name)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.Create(file + ".new")
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(raw); err != nil {
		return err
	}
	if err := f.Sync(); err != nil { // it must survive a power cut
		return err
	}
	return os.Rename(f.Name(), file)
}

// up makes the bridge and the rules of a network, unless they are there.
func (s Store) up(n *Network) error {
	link, err := netlink.LinkByName(n.Device)
	var missing netlink.LinkNotFoundError
	if err != nil && !errors.As(err, &missing) {
		return err
	}
	if err == nil && link.Type() != "bridge" {
		return advice.Add(fmt.Errorf("network %s: its device %s is somebody's %s", n.Name, n.Device, link.Type()), "rename that one, or remove the network: gocker network rm %s", n.Name)
	}
	bridge := n.bridge()
	if isThere := err == nil; isThere {
		present, err := s.table().Present() // a user may have flushed all rules
		if err != nil || present && link.Attrs().Flags&net.FlagUp != 0 {
			return err
		}
		if err := s.complete(*n, bridge.SetUp); err != nil {
			return fmt.Errorf("network %s: %w", n.Name, err)
		}
		return nil
	}
	if err := s.fit(n); err != nil {
		return err
	}
	if err := s.complete(*n, n.bridge().Make); err != nil {
		return errors.Join(fmt.Errorf("network %s: %w", n.Name, err), bridge.Remove(), s.writeRules())
	}
	return nil
}

// complete makes what a network needs. Its device is set up last: one that is up has all the rest, whenever a process is killed.
func (s Store) complete(n Network, setUp func() error) error {
	for _, subnet := range n.Subnets {
		if n.Internal {
			break
		}
		if err := network.Forward(subnet.Gateway); err != nil {
			return err
		}
	}
	if err := s.writeRules(n); err != nil {
		return err
	}
	return setUp()
}

// fit is an error if the host has got a route or an address, since a network was made, that its subnets overlap. Nobody has
// asked for those of the default network: it gets others.
func (s Store) fit(n *Network) error {
	err := hostLacks(*n)
	if err == nil || n.Name != Default {
		return err
	}
	other := *n
	other.Subnets = nil
	if other.Subnets, err = s.chooseSubnets(other); err != nil {
		return err
	}
	*n = other
	return s.write(other)
}

// writeRules makes the rules what they should be for the networks that are up, or about to be, and the ports that are published on
// them.
func (s Store) writeRules(coming ...Network) error {
	all, err := s.List()
	if err != nil {
		return err
	}
	var rules []firewall.Network
	var ports []firewall.Port
	for _, n := range all {
		if !slices.ContainsFunc(coming, func(c Network) bool { return c.ID == n.ID }) {
			_, err := netlink.LinkByName(n.Device)
			if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
				continue
			}
			if err != nil {
				return err
			}
		}
		rules = append(rules, n.rules())
		endpoints, err := s.On(n)
		if err != nil {
			return err
		}
		for _, e := range endpoints {
			ports = append(ports, e.rules()...)
		}
	}
	return s.table().Write(rules, ports)
}

// Remove removes a network that nobody is on.
func (s Store) Remove(name string) (n Network, err error) {
	err = s.change(func() (err error) {
		n, err = s.remove(name)
		return err
	})
	return n, err
}

func (s Store) remove(name string) (Network, error) {
	n, err := s.FindAny(name)
	damaged := errors.Is(err, dirs.ErrDamaged)
	if damaged {
		n, err = Network{Name: name}, nil // nothing else is known of it
	}
	if err != nil {
		return n, err
	}
	if n.Builtin() && !damaged {
		return n, advice.Add(fmt.Errorf("%w: %s", ErrBuiltin, n.Name), "what it has in the kernel goes, unless somebody uses it: gocker network prune")
	}
	if !damaged {
		if err := s.down(n); err != nil {
			return n, err
		}
	}
	if err := dirs.RemoveAll(filepath.Dir(s.file(n.Name))); err != nil {
		return n, err
	}
	s.note("destroy", n)
	if damaged { // it is not known what was its bridge
		return n, s.sweep()
	}
	return n, nil
}

// down takes away what a network has in the kernel, if nobody is on it.
func (s Store) down(n Network) error {
	on, err := s.On(n)
	if err != nil {
		return err
	}
	if len(on) > 0 {
		return advice.Add(fmt.Errorf("%w: container %s is on network %s", ErrUsed, on[0].name(), n.Name), "take it off: gocker network disconnect -f %s %s", n.Name, on[0].name())
	}
	if err := os.RemoveAll(s.members(n.ID)); err != nil { // one that was killed may have left a file there that was not complete
		return err
	}
	if err := (network.Switch{Name: n.Device}).Remove(); err != nil {
		return err
	}
	return s.writeRules()
}

// Rest takes away what the default network has in the kernel, if nobody is on it, and what networks that are gone have there.
func (s Store) Rest() error {
	return s.change(func() error {
		n, err := s.read(Default)
		if err == nil {
			err = s.down(n)
		}
		if err != nil && !errors.Is(err, ErrUsed) && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return s.sweep()
	})
}

// bridge is the device that the network is in the kernel.
func (n Network) bridge() network.Switch {
	bridge := network.Switch{Name: n.Device, MTU: n.MTU()}
	for _, subnet := range n.Subnets {
		bridge.Addrs = append(bridge.Addrs, netip.PrefixFrom(subnet.Gateway, subnet.Subnet.Bits()))
	}
	return bridge
}

// rules are what the firewall has to know of it.
func (n Network) rules() firewall.Network {
	rules := firewall.Network{Bridge: n.Device, Internal: n.Internal, Apart: n.Options[OptICC] == "false", Masquerade: n.Options[OptMasquerade] != "false"}
	for _, subnet := range n.Subnets {
		rules.Subnets = append(rules.Subnets, subnet.Subnet)
	}
	return rules
}

// MTU is how many bytes a packet may have; 0: the kernel's choice.
func (n Network) MTU() int {
	var mtu int
	if rootless.Apart() {
		mtu = rootless.MTU
	}
	fmt.Sscan(n.Options[OptMTU], &mtu)
	return mtu
}

// hostIP is the address of the host at which ports are published that say none; the zero one: all.
func (n Network) hostIP() netip.Addr {
	addr, _ := netip.ParseAddr(n.Options[OptHostIP])
	if addr.IsUnspecified() {
		return netip.Addr{}
	}
	return addr
}

// isGone tells whether a device or rule that we wanted to take away was gone.
func isGone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) }
