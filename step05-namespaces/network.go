//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"

	"gocker/step01-pull/shared/advice"
	"gocker/step03-layers/usernamespace"
	"gocker/step04-overlay/overlay"
	"gocker/step04-overlay/story"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/network"
	"gocker/step05-namespaces/terminal"
)

// What -network adds: the container is at the end of a cable, and there is another machine to talk to, which is one more
// container. So no internet is needed.
var (
	bridge = network.Bridge{Name: "lesson0", Addr: netip.MustParsePrefix("10.83.0.1/24")}
	ownIP  = netip.MustParseAddr("10.83.0.2")
	// 203.0.113.0/24 is TEST-NET-3: nobody's, but for examples. See RFC 5737.
	uplink = network.Uplink{Device: "lesson-uplink", Host: netip.MustParsePrefix("203.0.113.1/24"), There: netip.MustParsePrefix("203.0.113.7/24")}
)

// connect makes the bridge and the other machine, and returns the parts of the container that is plugged in.
func connect(f *overlay.FS, tell story.Story) (machine *namespaces.Process, cable []namespaces.Part, err error) {
	if err := bridge.Make(); err != nil {
		if usernamespace.Inside() {
			err = advice.Add(err, "a user has no bridges on the machine's network, but may have a network that stands for it: see docs/user-namespaces.md")
		}
		return nil, nil, err
	}
	bridge.TellMake(tell)
	spec := namespaces.Spec(f.Mnt(), "machine", []string{"true"}) // which it never begins
	if machine, err = namespaces.Create(spec, terminal.New(spec.Process, terminal.Stdio{})); err != nil {
		return nil, nil, errors.Join(err, bridge.Remove())
	}
	if err := uplink.Plug(machine.Pid); err != nil {
		return nil, nil, errors.Join(err, disconnect(machine, tell))
	}
	return machine, []namespaces.Part{bridge.Cable(ownIP), bridge.TellCable(ownIP, tell)}, nil
}

func disconnect(machine *namespaces.Process, tell story.Story) error {
	machine.Abort()
	bridge.TellRemove(tell)
	return bridge.Remove()
}

// showNetwork shows what the host and the container have of the network, and sends a packet to the other machine.
func showNetwork(stdout io.Writer, p, machine *namespaces.Process) error {
	if err := network.Compare(stdout, os.Getpid(), p.Pid); err != nil {
		return err
	}
	l, err := network.Listen(machine.Pid, uplink.There.Addr())
	if err != nil {
		return err
	}
	defer l.Close()
	seen, err := l.Ask(p.Pid)
	if err != nil {
		return fmt.Errorf("send a packet from %s to %s: %w", ownIP, l.Addr, err)
	}
	packets, err := bridge.Masqueraded()
	fmt.Fprintf(stdout, "   %s sends a packet to another machine, %s, which answers: it came from %s\n", ownIP, l.Addr.Addr(), seen)
	fmt.Fprintf(stdout, "   packets that the rule of the host has masqueraded: %d\n", packets)
	return err
}
