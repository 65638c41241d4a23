//go:build linux

package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A container's address means nothing outside of the host: an answer to it would reach nobody. So the host puts its own
// address in place of it when a packet leaves, remembers the connection, and undoes it in the answers. That is
// masquerading. As a rule for nft(8):
//
//	table ip gocker-lesson {
//		chain postrouting {
//			type nat hook postrouting priority srcnat
//			ip saddr 10.83.0.0/24 oifname != "lesson0" counter masquerade
//		}
//	}
//
// The table is the bridge's own. Nobody else's rules are changed by it or go with it.

// table is the bridge's table of rules.
func (b Bridge) table() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "gocker-" + b.Name}
}

func (b Bridge) chain() *nftables.Chain {
	return &nftables.Chain{
		Name: "postrouting", Table: b.table(), Type: nftables.ChainTypeNAT,
		// After the routing decision: only now it is known through which device a packet leaves.
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	}
}

// masquerade writes the rule, in one transaction.
func (b Bridge) masquerade() error {
	var c nftables.Conn
	c.AddTable(b.table())
	c.DelTable(b.table()) // one that is left has the rule already
	c.AddTable(b.table())
	c.AddRule(&nftables.Rule{Table: b.table(), Chain: c.AddChain(b.chain()), Exprs: Masquerade(b.Addr, b.Name)})
	if err := c.Flush(); err != nil {
		return fmt.Errorf("masquerade what comes from %s: %w", b.Addr.Masked(), err)
	}
	return nil
}

// Masquerade is the rule for packets of one subnet, unless they stay on the bridge.
func Masquerade(subnet netip.Prefix, bridge string) []expr.Any {
	offset := uint32(12) // of the source address, in an IPv4 header
	if subnet.Addr().Is6() {
		offset = 8
	}
	bits := subnet.Addr().BitLen()
	size := uint32(bits / 8)
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: net.CIDRMask(subnet.Bits(), bits), Xor: make([]byte, size)},
		&expr.Cmp{Register: 1, Op: expr.CmpOpEq, Data: subnet.Masked().Addr().AsSlice()},
		&expr.Meta{Register: 1, Key: expr.MetaKeyOIFNAME},
		&expr.Cmp{Register: 1, Op: expr.CmpOpNeq, Data: Device(bridge)},
		&expr.Counter{},
		&expr.Masq{},
	}
}

// Device is the name of a device, as rules compare it: with zeros up to IFNAMSIZ.
func Device(name string) []byte {
	padded := make([]byte, unix.IFNAMSIZ)
	copy(padded, name)
	return padded
}

// Unmasquerade takes the rule away again.
func (b Bridge) Unmasquerade() error {
	var c nftables.Conn
	c.DelTable(b.table())
	if err := c.Flush(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove the rules of %s: %w", b.Name, err)
	}
	return nil
}

// Masqueraded is how many packets the rule has met: the first of each connection.
func (b Bridge) Masqueraded() (packets uint64, err error) {
	var c nftables.Conn
	rules, err := c.GetRules(b.table(), b.chain())
	for _, rule := range rules {
		for _, e := range rule.Exprs {
			if counter, ok := e.(*expr.Counter); ok {
				packets += counter.Packets
			}
		}
	}
	return packets, err
}
