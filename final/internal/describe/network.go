//go:build linux

package describe

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-connections/nat"

	"gocker/final/internal/networks"
	"gocker/final/internal/rootless"
	"gocker/step01-pull/shared/advice"
)

// Network is the flags of "run" that say which networks a container is on, and how it is reached from outside.
type Network struct {
	Wants      []networks.Want
	Publish    []networks.Publish
	PublishAll bool     // the ports that are exposed, too
	Expose     []string // "80/tcp": ports that the container listens on, as it says
}

// NetworkFlags are the same as the user has written them.
type NetworkFlags struct {
	Networks                        []string // names, modes, or docker's long form "name=…,ip=…"
	IP, IP6, MAC                    string
	Aliases, Links, Publish, Expose []string
	DriverOpts                      []string // of "network connect"
	PublishAll                      bool
}

// Parse reads the flags. mode is what Isolation.Network is to be: empty if the container is on networks.
func (f NetworkFlags) Parse() (mode string, n Network, err error) {
	n.PublishAll = f.PublishAll
	for _, value := range f.Networks {
		want, err := parseWant(value)
		if err != nil {
			return "", n, err
		}
		if want.Name == "none" || want.Name == "host" || strings.HasPrefix(want.Name, ofContainer) || strings.HasPrefix(want.Name, ofFile) {
			mode = want.Name
		}
		if slices.ContainsFunc(n.Wants, func(other networks.Want) bool { return other.Name == want.Name }) {
			return "", n, fmt.Errorf("--network %s: it is there twice", want.Name)
		}
		n.Wants = append(n.Wants, want)
	}
	if mode == "" {
		if err := rootless.CheckNetworks(); err != nil {
			return "", n, err
		}
	}
	if mode != "" && len(n.Wants) > 1 {
		return "", n, advice.Add(fmt.Errorf("--network %s: %w beside another network", mode, ErrOption), "leave one of them out")
	}
	if err := f.ofOne(mode, &n); err != nil {
		return "", n, err
	}
	if mode != "" {
		n.Wants = nil
	}
	return mode, n, errors.Join(n.parsePublished(f.Publish), n.parseExposed(f.Expose))
}

// Want reads the flags of "network connect": those of one network. One that stands for none has its mode as its name.
func (f NetworkFlags) Want() (networks.Want, error) {
	mode, n, err := f.Parse()
	if err != nil || mode != "" {
		return networks.Want{Name: mode}, err
	}
	return n.Wants[0], nil
}

// ofOne reads those flags that belong to the only network.
func (f NetworkFlags) ofOne(mode string, n *Network) error {
	if f.IP == "" && f.IP6 == "" && f.MAC == "" && len(f.Aliases)+len(f.Links)+len(f.DriverOpts) == 0 {
		return nil
	}
	if mode != "" {
		return advice.Add(fmt.Errorf("--ip, --ip6, --mac-address, --network-alias and --link: %w with --network %s", ErrOption, mode), "name a network")
	}
	want := &n.Wants[0]
	var err error
	for _, option := range []string{"ip=" + f.IP, "ip6=" + f.IP6, "mac-address=" + f.MAC} {
		if !strings.HasSuffix(option, "=") {
			err = errors.Join(err, setWant(want, option))
		}
	}
	for _, alias := range f.Aliases {
		err = errors.Join(err, setWant(want, "alias="+alias))
	}
	for _, option := range f.DriverOpts {
		err = errors.Join(err, setWant(want, "driver-opt="+option))
	}
	for _, link := range f.Links {
		err = errors.Join(err, setWant(want, "link="+link))
	}
	if want.Name == networks.Default && (want.IP.IsValid() || want.IP6.IsValid() || len(want.Aliases) > 0) {
		return advice.Add(fmt.Errorf("--ip, --ip6 and --network-alias: %w on the network %s", ErrOption, networks.Default), "make one: gocker network create NAME")
	}
	return err
}

// parseWant reads a value of --network: a name, or docker's long form.
func parseWant(value string) (want networks.Want, err error) {
	if !strings.Contains(value, "=") {
		want.Name = value
	}
	for option := range strings.SplitSeq(value, ",") {
		if strings.Contains(value, "=") && err == nil {
			err = setWant(&want, option)
		}
	}
	if want.Name == "default" || want.Name == "" && err == nil {
		want.Name = networks.Default
	}
	if err != nil {
		err = fmt.Errorf("--network %q: %w", value, err)
	}
	return want, err
}

func setWant(want *networks.Want, option string) (err error) {
	key, value, _ := strings.Cut(option, "=")
	bad := func(words string) error {
		return advice.Add(fmt.Errorf("%s %q: %w", key, value, ErrOption), "%s", words)
	}
	switch key {
	case "name":
		want.Name = value
	case "alias":
		if !isName(value) {
			return bad("a name has letters, digits, and - . _")
		}
		want.Aliases = append(want.Aliases, value)
	case "link":
		if name, alias, ok := strings.Cut(value, ":"); !isName(name) || ok && !isName(alias) {
			return bad("write NAME or NAME:ALIAS")
		}
		want.Links = append(want.Links, value)
	case "ip":
		if want.IP, err = netip.ParseAddr(value); err != nil || !want.IP.Is4() {
			return bad("write an IPv4 address")
		}
	case "ip6":
		if want.IP6, err = netip.ParseAddr(value); err != nil || !want.IP6.Is6() {
			return bad("write an IPv6 address")
		}
	case "mac-address":
		mac, err := net.ParseMAC(value)
		if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
			return bad("write a hardware address of one device: 02:42:ac:11:00:02")
		}
		want.MAC = mac.String()
	case "driver-opt":
		name, value, _ := strings.Cut(value, "=")
		if err := networks.CheckOption(name, value); err != nil {
			return bad(err.Error())
		}
		if want.Options == nil {
			want.Options = map[string]string{}
		}
		want.Options[name] = value
	case "gw-priority":
		if want.Priority, err = strconv.Atoi(value); err != nil {
			return bad("write a number")
		}
	default:
		return advice.Add(fmt.Errorf("%q: %w", key, ErrOption), "there are name, alias, link, ip, ip6, mac-address, driver-opt and gw-priority")
	}
	return nil
}

func isName(s string) bool {
	return s != "" && len(s) <= 63 && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._", r)
	})
}

// parsePublished reads the values of --publish: [[IP:]HOST:]CONTAINER[/PROTOCOL], with ranges.
func (n *Network) parsePublished(specs []string) error {
	for _, spec := range specs {
		mappings, err := nat.ParsePortSpec(spec)
		for _, m := range mappings {
			var p networks.Publish
			if p, err = parsePublish(m); err != nil {
				break
			}
			n.Publish = append(n.Publish, p)
		}
		if err != nil {
			return advice.Add(fmt.Errorf("--publish %q: %w", spec, err), "write [[IP:]HOSTPORT:]PORT[/tcp|udp|sctp], for example 8080:80")
		}
	}
	return nil
}

func parsePublish(m nat.PortMapping) (p networks.Publish, err error) {
	if m.Binding.HostIP != "" {
		if p.IP, err = netip.ParseAddr(m.Binding.HostIP); err != nil {
			return p, err
		}
		p.IP = p.IP.Unmap()
	}
	first, last, err := nat.ParsePortRangeToInt(m.Binding.HostPort)
	if err != nil {
		return p, err
	}
	p.First, p.Last, p.Port, p.Protocol = uint16(first), uint16(last), uint16(m.Port.Int()), m.Port.Proto()
	if p.Port == 0 {
		return p, errors.New("a container has no port 0")
	}
	return p, nil
}

// parseExposed reads the values of --expose, and those of an image: PORT[-PORT][/PROTOCOL].
func (n *Network) parseExposed(specs []string) error {
	for _, spec := range specs {
		proto, port := nat.SplitProtoPort(spec)
		first, last, err := nat.ParsePortRangeToInt(port)
		if err != nil || first == 0 || !slices.Contains([]string{"tcp", "udp", "sctp"}, proto) {
			return advice.Add(fmt.Errorf("--expose %q: %w", spec, ErrOption), "write PORT[-PORT][/tcp|udp|sctp]")
		}
		for p := first; p <= last; p++ {
			if exposed := strconv.Itoa(p) + "/" + proto; !slices.Contains(n.Expose, exposed) {
				n.Expose = append(n.Expose, exposed)
			}
		}
	}
	return nil
}

// Complete adds what the image exposes, and with --publish-all a port of the host for each that has none.
func (n *Network) Complete(exposed map[string]struct{}) error {
	for _, spec := range slices.Sorted(maps.Keys(exposed)) {
		if err := n.parseExposed([]string{spec}); err != nil {
			return err
		}
	}
	slices.Sort(n.Expose)
	if !n.PublishAll {
		return nil
	}
	for _, spec := range n.Expose {
		port := nat.Port(spec)
		has := slices.ContainsFunc(n.Publish, func(p networks.Publish) bool { return int(p.Port) == port.Int() && p.Protocol == port.Proto() })
		if !has {
			n.Publish = append(n.Publish, networks.Publish{Port: uint16(port.Int()), Protocol: port.Proto()})
		}
	}
	return nil
}
