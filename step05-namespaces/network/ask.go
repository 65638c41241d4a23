//go:build linux

package network

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netns"

	"gocker/step04-overlay/check"
)

// A Listener answers each UDP packet with the address that it came from.
type Listener struct {
	Addr netip.AddrPort
	conn net.PacketConn
}

// Listen has one answer at an address of the network namespace of a process.
func Listen(pid int, ip netip.Addr) (l Listener, err error) {
	err = Within(pid, func() (err error) {
		l.conn, err = net.ListenPacket("udp4", netip.AddrPortFrom(ip, 0).String())
		return err
	})
	if err == nil {
		l.Addr = l.conn.LocalAddr().(*net.UDPAddr).AddrPort()
		go l.answer()
	}
	return l, err
}

// answer ends when the socket is closed.
func (l Listener) answer() {
	for buffer := make([]byte, 1500); ; {
		_, from, err := l.conn.ReadFrom(buffer)
		if err != nil {
			return
		}
		l.conn.WriteTo([]byte(from.(*net.UDPAddr).IP.String()), from)
	}
}

// Close ends it.
func (l Listener) Close() error { return l.conn.Close() }

// Ask sends a packet to the listener from the network namespace of a process, and returns who has sent it, as the
// listener sees it.
func (l Listener) Ask(pid int) (seen string, err error) {
	err = Within(pid, func() error {
		conn, err := net.Dial("udp4", l.Addr.String())
		if err != nil {
			return err
		}
		defer conn.Close()
		const patience = 3 * time.Second
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if _, err := conn.Write([]byte("who am I?")); err != nil {
			return err
		}
		answer := make([]byte, 100)
		n, err := conn.Read(answer)
		seen = string(answer[:n])
		return err
	})
	return seen, err
}

// Within calls do on a thread that is in the network namespace of a process. A socket belongs to the namespace that its
// thread was in when it was made, and stays there, whoever uses it.
func Within(pid int, do func() error) error {
	return check.OnThread(func() error {
		ns, err := netns.GetFromPid(pid)
		if err != nil {
			return fmt.Errorf("open the network namespace of process %d: %w", pid, err)
		}
		defer ns.Close()
		if err := netns.Set(ns); err != nil {
			return fmt.Errorf("join the network namespace of process %d: %w", pid, err)
		}
		return do()
	})
}
