//go:build linux

package networks

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gocker/final/internal/attach"
	"gocker/final/internal/firewall"
	"gocker/final/internal/published"
	"gocker/final/internal/rootless"
	"gocker/final/internal/whynot"
	"gocker/step01-pull/shared/advice"
	"gocker/step04-overlay/check"
)

// A Publish is a port of the container that is to be reached through one of the host.
type Publish struct {
	IP          netip.Addr `json:",omitzero"` // of the host; the zero one: all
	First, Last uint16     // ports of the host, of which one is taken; 0: any that is free
	Port        uint16     // of the container
	Protocol    string
}

// listen takes the ports of the host, for the network through which the container's default route leads: answers leave there. Where
// none does, none is published.
func (a *Attachment) listen() error {
	first := slices.IndexFunc(a.Endpoints, func(e Endpoint) bool { return e.leads(true) })
	if first < 0 || len(a.publish) == 0 {
		return nil
	}
	e := &a.Endpoints[first]
	var groups [][]published.Port
	for _, p := range a.publish {
		if !p.IP.IsValid() {
			p.IP = e.HostIP
		}
		groups = append(groups, p.at(e.Addrs))
	}
	// Elsewhere: a user's networks are in another network namespace than the ports of the host.
	listeners, err := check.Elsewhere(func() (*published.Listeners, error) { return published.Listen(groups...) })()
	if err != nil {
		return a.store.nameHolder(err)
	}
	a.listeners = listeners
	a.listeners.Within = rootless.InNetwork
	for _, p := range listeners.Ports() {
		e.Ports = append(e.Ports, Port{Host: p.Host, Protocol: p.Protocol, Container: p.To.Port()})
	}
	return a.store.writeEndpoint(*e)
}

// lead has the rules lead to the container what comes to its ports.
func (a *Attachment) lead() error {
	var ports []firewall.Port
	for _, e := range a.Endpoints {
		ports = append(ports, e.rules()...)
	}
	if len(ports) == 0 {
		return nil
	}
	if err := a.store.table().Publish(ports); err != nil {
		return err
	}
	return published.Forget(a.listeners.Ports())
}

// follow publishes the ports on another network if the default route leads there now. The caller of tellHolder holds the lock
// meanwhile.
func (a *Attachment) follow() (err error) {
	a.Endpoints, err = a.store.Of(a.container)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(a.Endpoints, func(e Endpoint) bool { return len(e.Ports) > 0 }); i >= 0 {
		e := &a.Endpoints[i]
		if e.leads(true) {
			return nil
		}
		err := a.store.unpublish(*e, func() error {
			e.Ports = nil
			return a.store.writeEndpoint(*e)
		})
		if err != nil {
			return err
		}
	}
	if err := errors.Join(a.unlisten(), a.listen()); err != nil || a.listeners == nil {
		return errors.Join(err, a.unlisten())
	}
	if err := a.lead(); err != nil {
		for _, e := range a.Endpoints {
			e.Ports = nil
			err = errors.Join(err, a.store.writeEndpoint(e))
		}
		return errors.Join(err, a.unlisten())
	}
	a.listeners.Serve()
	return nil
}

// unlisten gives the ports of the host back.
func (a *Attachment) unlisten() (err error) {
	if a.listeners != nil {
		err = a.listeners.Close()
		a.listeners = nil
	}
	return err
}

// nameHolder says which container has a port that is taken, if one has it.
func (s Store) nameHolder(err error) error {
	taken, ok := errors.AsType[*published.Taken](err)
	if !ok {
		return err
	}
	endpoints, _ := readEndpoints(s.running(), "*/*.json") // what cannot be read now does not hide the error
	for _, e := range endpoints {
		for _, p := range e.Ports {
			if p.Host.Port() == taken.Port.Host.Port() && p.Protocol == taken.Port.Protocol {
				return advice.Add(fmt.Errorf("port %d/%s of the host is taken: by container %s", p.Host.Port(), p.Protocol, e.name()),
					"choose another port of the host, or stop that container: gocker stop %s", e.name())
			}
		}
	}
	return err
}

// at are the ports of the host that lead to the container's, of both kinds of addresses. What has no address of a kind is
// reached by the other.
func (p Publish) at(addrs []netip.Prefix) (ports []published.Port) {
	hosts := []netip.Addr{p.IP}
	if !p.IP.IsValid() {
		hosts = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	for _, host := range hosts {
		to := addrs[0].Addr()
		for _, addr := range addrs {
			if addr.Addr().Is4() == host.Is4() {
				to = addr.Addr()
			}
		}
		ports = append(ports, published.Port{Host: netip.AddrPortFrom(host, p.First), Last: p.Last, Protocol: p.Protocol, To: netip.AddrPortFrom(to, p.Port)})
	}
	return ports
}

// PortsName is a socket in the container's folder, if it has ports that may be published. A process that changes its networks
// connects there, and reads what came of the ports: nothing, or a whynot.Failure.
const PortsName = "ports"

// An ear is this socket, in the process that holds the container.
type ear struct {
	listener *net.UnixListener
	hearing  sync.WaitGroup
}

// listenFor makes the socket.
func (s Store) listenFor(container string) (e *ear, err error) {
	e = &ear{}
	err = attach.Address(s.Dirs.Container(container), PortsName, func(at *net.UnixAddr) error {
		os.Remove(at.Name) // of a gocker that died
		e.listener, err = net.ListenUnix(at.Net, at)
		return err
	})
	if err != nil {
		return nil, err
	}
	e.listener.SetUnlinkOnClose(false) // that name was good for a moment; it goes with the folder
	return e, nil
}

// serve calls do for each connection.
func (e *ear) serve(do func() error) {
	e.hearing.Go(func() {
		for {
			conn, err := e.listener.AcceptUnix()
			if err != nil {
				return // closed
			}
			if err := do(); err != nil {
				json.NewEncoder(conn).Encode(whynot.NewFailure(err))
			}
			conn.Close()
		}
	})
}

func (e *ear) close() {
	if e != nil {
		e.listener.Close()
		e.hearing.Wait()
	}
}

// tellHolder has the process that holds a container follow a change of its networks, and waits for it. The caller holds the lock.
// Where nobody listens, there are no ports.
func (s Store) tellHolder(container string) error {
	const patience = 10 * time.Second
	var conn *net.UnixConn
	err := attach.Address(s.Dirs.Container(container), PortsName, func(at *net.UnixAddr) (err error) {
		conn, err = net.DialUnix(at.Net, nil, at)
		return err
	})
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
		return nil
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(patience))
	var failure whynot.Failure
	switch err := json.NewDecoder(conn).Decode(&failure); {
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET):
		return nil
	case err != nil:
		return advice.Add(fmt.Errorf("publish the ports of container %s: its gocker does not answer: %w", container, err), "restart it: gocker restart %s", container)
	}
	return failure.Err()
}
