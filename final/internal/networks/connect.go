//go:build linux

package networks

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"gocker/final/internal/rootless"
	"gocker/step01-pull/shared/advice"
	"gocker/step05-namespaces/network"
)

// ErrNotOn says that a container is not on a network.
var ErrNotOn = errors.New("the container is not on the network")

// Connect puts a container that runs on one more network. pid is its first process, and still is an error if that has ended
// since. id is the container's whole one. The process that holds the container hears of it only if it has ports: at the container's end it gives back what it
// finds then.
func (s Store) Connect(container, id string, pid int, want Want, names []string, still func() error) error {
	return s.change(func() error { return s.connect(container, id, pid, want, names, still) })
}

func (s Store) connect(container, id string, pid int, want Want, names []string, still func() error) (err error) {
	if err := still(); err != nil {
		return err
	}
	others, err := s.Of(container)
	if err != nil {
		return err
	}
	if s.leadsOut(want) {
		connected, err := rootless.Uplink()
		if err == nil {
			err = connected()
		}
		if err != nil {
			return err
		}
	}
	e, bridge, err := s.join(container, id, want, others)
	if err != nil {
		return err
	}
	e.Names = append(slices.Clone(names), want.Aliases...)
	e.Routers = slices.DeleteFunc(e.Routers, func(router netip.Addr) bool {
		return slices.ContainsFunc(others, func(other Endpoint) bool { return other.leads(router.Is4()) && other.Priority >= e.Priority })
	})
	if err := s.writeEndpoint(e); err != nil {
		return err
	}
	s.noteOn("connect", e)
	defer func() {
		if err != nil {
			err = errors.Join(err, e.cable(0, "").Pull(), s.release(e), s.reroute(pid, others, e.Routers))
		}
	}()
	if err := s.unroute(pid, others, e.Routers); err != nil {
		return err
	}
	if err := e.lay(pid, bridge); err != nil {
		return errors.Join(err, still())
	}
	if err := network.Within(pid, divert); err != nil { // now it may need the resolver, if it did not before
		return err
	}
	if err := still(); err != nil { // its number may be another process's by now, which has got the cable
		return err
	}
	return s.tellHolder(container)
}

// leads tells whether a default route leads through the endpoint, of IPv4 or IPv6.
func (e Endpoint) leads(v4 bool) bool {
	return slices.ContainsFunc(e.Routers, func(router netip.Addr) bool { return router.Is4() == v4 })
}

// Disconnect takes a container off a network. pid is its first process, or 0 if there is none. If its default route and its
// ports led there, another network gets them.
func (s Store) Disconnect(container string, pid int, n Network) error {
	return s.change(func() error { return s.disconnect(container, pid, n) })
}

func (s Store) disconnect(container string, pid int, n Network) error {
	rest, err := s.Of(container)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(rest, func(e Endpoint) bool { return e.NetworkID == n.ID })
	if i < 0 {
		return advice.Add(fmt.Errorf("%w: container %s, network %s", ErrNotOn, container, n.Name), "to see who is: gocker network inspect %s", n.Name)
	}
	e := rest[i]
	rest = slices.Delete(rest, i, i+1)
	if err := errors.Join(e.cable(0, "").Pull(), s.release(e)); err != nil || pid == 0 {
		return err
	}
	return errors.Join(s.reroute(pid, rest, e.Routers), s.tellHolder(container))
}

// unroute takes away the container's default routes, where it is to have new ones.
func (s Store) unroute(pid int, endpoints []Endpoint, by []netip.Addr) error {
	for _, router := range by {
		for i := range endpoints {
			e := &endpoints[i]
			lost := slices.IndexFunc(e.Routers, func(r netip.Addr) bool { return r.Is4() == router.Is4() })
			if lost < 0 {
				continue
			}
			err := network.Within(pid, func() error { return netlink.RouteDel(&netlink.Route{Gw: e.Routers[lost].AsSlice()}) })
			if err != nil {
				return fmt.Errorf("network %s: route through %s: %w", e.Network, e.Routers[lost], err)
			}
			e.Routers = slices.Delete(slices.Clone(e.Routers), lost, lost+1)
			if err := s.writeEndpoint(*e); err != nil {
				return err
			}
		}
	}
	return nil
}

// reroute gives a container default routes in the place of those that it has lost: through the network of the largest priority that
// leads out.
func (s Store) reroute(pid int, endpoints []Endpoint, lost []netip.Addr) error {
	endpoints = slices.Clone(endpoints)
	slices.SortStableFunc(endpoints, func(a, b Endpoint) int { return cmp.Compare(b.Priority, a.Priority) })
	for _, router := range lost {
		if err := s.routeOut(pid, endpoints, router.Is4()); err != nil {
			return err
		}
	}
	return nil
}

// routeOut gives a container a default route, unless it has one, through the first of its networks that leads out.
func (s Store) routeOut(pid int, endpoints []Endpoint, v4 bool) error {
	if slices.ContainsFunc(endpoints, func(e Endpoint) bool { return e.leads(v4) }) {
		return nil
	}
	for i := range endpoints {
		e := &endpoints[i]
		n, err := s.Find(e.NetworkID)
		if err != nil {
			return err
		}
		for _, subnet := range n.Subnets {
			if subnet.Gateway.Is4() != v4 || n.Internal {
				continue
			}
			err := network.Within(pid, func() error { return netlink.RouteAdd(&netlink.Route{Gw: subnet.Gateway.AsSlice()}) })
			if err != nil {
				return fmt.Errorf("network %s: route through %s: %w", n.Name, subnet.Gateway, err)
			}
			e.Routers = append(slices.Clone(e.Routers), subnet.Gateway)
			return s.writeEndpoint(*e)
		}
	}
	return nil
}

// Rename changes a container's name in what the others know it by.
func (s Store) Rename(container, from, to string) error {
	return s.each(container, func(e Endpoint) error {
		i := slices.Index(e.Names, from) // the first: a hostname may be the same
		if i < 0 {
			return nil
		}
		e.Names[i] = to
		return s.writeEndpoint(e)
	})
}

// Linked are the containers that a container on the default network is to find by name, which has no resolver.
func (s Store) Linked(endpoints []Endpoint) (map[string][]string, error) {
	linked := map[string][]string{}
	for _, e := range endpoints {
		if e.Network != Default || len(e.Links) == 0 {
			continue
		}
		on, err := s.On(Network{ID: e.NetworkID})
		if err != nil {
			return nil, err
		}
		for _, link := range e.Links {
			name, alias, _ := strings.Cut(link, ":")
			i := slices.IndexFunc(on, func(other Endpoint) bool { return slices.Contains(other.Names, name) })
			if i < 0 {
				return nil, advice.Add(fmt.Errorf("--link %s: no container of that name is on network %s", link, Default), "start it first: gocker start %s", name)
			}
			addr := on[i].Addrs[0].Addr().String()
			linked[addr] = append(linked[addr], cmp.Or(alias, name), name)
		}
	}
	return linked, nil
}
