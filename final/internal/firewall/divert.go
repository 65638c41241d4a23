//go:build linux

package firewall

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Divert leads what a container sends to an address, by UDP and TCP, to another port of the same address. It writes the rules in
// the network namespace that the calling thread is in, which is the container's:
//
//	table ip gocker {
//		chain output {
//			type nat hook output priority -100
//			ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:47053
//			ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:47053
//		}
//	}
func Divert(from netip.AddrPort, port uint16) error {
	var c nftables.Conn
	table := c.CreateTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "gocker"})
	output := c.AddChain(&nftables.Chain{Name: "output", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityRef(-100)})
	for _, protocol := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
		c.AddRule(&nftables.Rule{Table: table, Chain: output, Exprs: []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: from.Addr().AsSlice()},
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, from.Port())},
			&expr.Immediate{Register: 1, Data: from.Addr().AsSlice()},
			&expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, port)},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2},
		}})
	}
	err := flush(&c, "lead questions for names to gocker")
	// There is one already, and it says the same. To delete it each time would cost each start ten milliseconds: before a socket that
	// has deleted something is closed, the kernel waits until no processor reads rules any more.
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}
