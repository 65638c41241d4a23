//go:build linux

// Package firewall holds the rules for all networks of containers: one nftables table, beside which everybody else's tables
// stay what they are.
//
// As nft(8) writes them, for one network:
//
//	table inet gocker {
//		set bridges { type ifname; elements = { "gocker0" } }
//		map ports4 { type inet_proto . inet_service : ipv4_addr . inet_service; elements = { tcp . 8080 : 172.17.0.2 . 80 } }
//		map ports4at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service }
//
//		chain prerouting {
//			type nat hook prerouting priority dstnat
//			iifname != @bridges fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @ports4at
//			iifname != @bridges fib daddr type local dnat ip to meta l4proto . th dport map @ports4
//		}
//		chain output { … }                      the same, for all but 127.0.0.0/8
//		chain postrouting {
//			type nat hook postrouting priority srcnat
//			ip saddr 172.17.0.0/16 oifname != "gocker0" counter masquerade
//		}
//		chain forward {
//			type filter hook forward priority filter
//			oifname @bridges ct state established,related accept
//			oifname @bridges ct status dnat accept
//			iifname "gocker0" oifname "gocker0" accept
//			oifname @bridges drop
//		}
//	}
//
// What chain forward says: into a network come answers, what goes to a published port, and what its own containers send each
// other. All else is dropped: networks do not reach each other, and nobody outside reaches a port that is not published. What
// it accepts, another table may still drop.
//
// These rules do not lead on what comes from a container to a port of the host. The host's socket on that port gets it: see
// package published. By a rule a container would get the answer of a neighbour, or of itself, from an address that it never asked.
//
// IPv6 has the same maps and rules. See https://wiki.nftables.org and nft(8).
package firewall

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step05-namespaces/network"
)

// A Network is what the rules have to know of a network.
type Network struct {
	Bridge     string         // the device
	Subnets    []netip.Prefix // of IPv4 and IPv6
	Internal   bool           // nothing goes out
	Apart      bool           // its containers do not reach each other
	Masquerade bool           // what goes out has the host's address
}

// A Port of the host leads to one of a container.
type Port struct {
	Host     netip.AddrPort // the unspecified address is all addresses of its kind
	Protocol uint8          // unix.IPPROTO_TCP, _UDP or _SCTP
	To       netip.AddrPort // of the same kind
}

// ErrTaken says that another container has one of the ports.
var ErrTaken = errors.New("the port is taken by another container")

// A Table is the name of one.
type Table string

func (t Table) table() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: string(t)}
}

// Write replaces the whole table, in one transaction. Without networks there is none.
func (t Table) Write(networks []Network, ports []Port) error {
	c, err := transaction()
	if err != nil {
		return err
	}
	c.AddTable(t.table())
	c.DelTable(t.table())
	if len(networks) > 0 {
		c.AddTable(t.table())
		if err := t.addRules(c, networks, ports); err != nil {
			return err
		}
	}
	return flush(c, "write the rules of table inet "+string(t))
}

// Present tells whether the table is there: a user may have flushed all rules.
func (t Table) Present() (bool, error) {
	var c nftables.Conn
	_, err := c.ListTableOfFamily(string(t), nftables.TableFamilyINet)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, explained("read the rules of table inet "+string(t), err)
}

// Bridges are the devices of the networks that the table has rules for.
func (t Table) Bridges() (devices []string, err error) {
	if present, err := t.Present(); err != nil || !present {
		return nil, err
	}
	var c nftables.Conn
	elements, err := c.GetSetElements(&nftables.Set{Table: t.table(), Name: bridgesName, KeyType: nftables.TypeIFName})
	for _, e := range elements {
		devices = append(devices, strings.TrimRight(string(e.Key), "\x00"))
	}
	return devices, explained("read the rules of table inet "+string(t), err)
}

// bridgesName is the set of them.
const bridgesName = "bridges"

// Publish adds ports, all or none: ErrTaken if one is there already.
func (t Table) Publish(ports []Port) error {
	err := t.change(ports, (*nftables.Conn).SetAddElements)
	if errors.Is(err, unix.EEXIST) {
		return ErrTaken
	}
	return err
}

// Unpublish takes ports away again. It is unix.ENOENT if one of them is not there: then all stay.
func (t Table) Unpublish(ports []Port) error {
	return t.change(ports, (*nftables.Conn).SetDeleteElements)
}

func (t Table) change(ports []Port, do func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
	if len(ports) == 0 {
		return nil
	}
	c, err := transaction()
	if err != nil {
		return err
	}
	for _, m := range maps(t.table()) {
		err := inPieces(m.elements(ports), m.Set, func(s *nftables.Set, some []nftables.SetElement) error { return do(c, s, some) })
		if err != nil {
			return err
		}
	}
	return flush(c, "publish ports")
}

// transaction is for messages that are sent together by flush: all of them count, or none. Those for 20,000 ports are larger
// than a socket usually lets pass.
func transaction() (*nftables.Conn, error) {
	const room = 16 << 20 // bytes
	return nftables.New(nftables.WithSockOptions(func(c *netlink.Conn) error { return c.SetWriteBuffer(room) }))
}

// inPieces calls do with some elements at a time: all of a message's have to fit into 64 KiB.
func inPieces(elements []nftables.SetElement, s *nftables.Set, do func(*nftables.Set, []nftables.SetElement) error) error {
	for some := range slices.Chunk(elements, 500) {
		if err := do(s, some); err != nil {
			return err
		}
	}
	return nil
}

func flush(c *nftables.Conn, what string) error { return explained(what, c.Flush()) }

func explained(what string, err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s: %w", what, err)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT) {
		err = advice.Add(err, "this kernel lacks nftables or a part of it: modprobe nf_tables nft_nat nft_masq nft_fib_inet; or leave the network out: --network none")
	}
	return err
}

// A portMap leads from ports of the host to addresses of containers.
type portMap struct {
	*nftables.Set
	v6, at bool // of IPv6; of one address of the host
}

// maps are the four, the more specific of a kind first.
func maps(table *nftables.Table) []portMap {
	make := func(name string, v6, at bool, address nftables.SetDatatype) portMap {
		key := []nftables.SetDatatype{nftables.TypeInetProto, nftables.TypeInetService}
		if at {
			key = append([]nftables.SetDatatype{address}, key...)
		}
		return portMap{&nftables.Set{
			Table: table, Name: name, IsMap: true, Concatenation: true,
			KeyType: nftables.MustConcatSetType(key...), DataType: nftables.MustConcatSetType(address, nftables.TypeInetService),
		}, v6, at}
	}
	return []portMap{
		make("ports4at", false, true, nftables.TypeIPAddr), make("ports4", false, false, nftables.TypeIPAddr),
		make("ports6at", true, true, nftables.TypeIP6Addr), make("ports6", true, false, nftables.TypeIP6Addr),
	}
}

// has tells whether a port belongs into this map.
func (m portMap) has(p Port) bool {
	return p.Host.Addr().Is6() == m.v6 && p.Host.Addr().IsUnspecified() != m.at
}

// elements are those of the ports that belong into this map. Each field of a key or value begins at four bytes.
func (m portMap) elements(ports []Port) (elements []nftables.SetElement) {
	for _, p := range ports {
		if !m.has(p) {
			continue
		}
		var key []byte
		if m.at {
			key = p.Host.Addr().AsSlice()
		}
		key = append(key, p.Protocol, 0, 0, 0)
		elements = append(elements, nftables.SetElement{Key: field(key, p.Host.Port()), Val: field(p.To.Addr().AsSlice(), p.To.Port())})
	}
	return elements
}

func field(before []byte, port uint16) []byte {
	return append(binary.BigEndian.AppendUint16(before, port), 0, 0)
}

// family asks whether a packet is of the map's.
func (m portMap) family() []expr.Any {
	if m.v6 {
		return isOf(unix.NFPROTO_IPV6)
	}
	return isOf(unix.NFPROTO_IPV4)
}

func isOf(family byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}}}
}

// dnat is the rule that sends a packet where the map says.
func (m portMap) dnat() []expr.Any {
	const register, bytes = 8, 4 // the first of the registers with four bytes: they are those that 1, 2, … have sixteen of
	family, offset, size := byte(unix.NFPROTO_IPV4), uint32(16), uint32(4)
	if m.v6 {
		family, offset, size = unix.NFPROTO_IPV6, 24, 16
	}
	rule := []expr.Any{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
	next := uint32(register)
	if m.at {
		rule = append(rule, &expr.Payload{DestRegister: next, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size})
		next += size / bytes
	}
	return append(rule,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: next},
		&expr.Payload{DestRegister: next + 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: register, DestRegister: register, IsDestRegSet: true, SetName: m.Name, SetID: m.ID},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(family), RegAddrMin: register, RegProtoMin: register + size/bytes},
	)
}

func (t Table) addRules(c *nftables.Conn, networks []Network, ports []Port) error {
	table := t.table()
	bridges := &nftables.Set{Table: table, Name: bridgesName, KeyType: nftables.TypeIFName, KeyByteOrder: binaryutil.NativeEndian}
	var names []nftables.SetElement
	for _, n := range networks {
		names = append(names, nftables.SetElement{Key: network.Device(n.Bridge)})
	}
	if err := c.AddSet(bridges, names); err != nil {
		return err
	}
	nat := func(name string, hook *nftables.ChainHook, priority *nftables.ChainPriority) *nftables.Chain {
		return c.AddChain(&nftables.Chain{Name: name, Table: table, Type: nftables.ChainTypeNAT, Hooknum: hook, Priority: priority})
	}
	prerouting := nat("prerouting", nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	output := nat("output", nftables.ChainHookOutput, nftables.ChainPriorityRef(-100)) // nft's dstnat, too
	postrouting := nat("postrouting", nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	forward := c.AddChain(&nftables.Chain{Name: "forward", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter})
	add := func(chain *nftables.Chain, rule ...expr.Any) {
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: rule})
	}

	fromElsewhere := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Lookup{SourceRegister: 1, SetName: bridges.Name, SetID: bridges.ID, Invert: true},
	}
	for _, m := range maps(table) {
		if err := cmp.Or(c.AddSet(m.Set, nil), inPieces(m.elements(ports), m.Set, c.SetAddElements)); err != nil {
			return err
		}
		add(prerouting, slices.Concat(fromElsewhere, m.family(), m.dnat())...)
		add(output, slices.Concat(m.family(), notLoopback(m.v6), m.dnat())...)
	}
	into := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Lookup{SourceRegister: 1, SetName: bridges.Name, SetID: bridges.ID},
	}
	add(forward, slices.Concat(into, ct(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), accept)...)
	add(forward, slices.Concat(into, ct(expr.CtKeySTATUS, dstNat), accept)...)
	for _, n := range networks {
		n.addRules(func(rule ...expr.Any) { add(postrouting, rule...) }, func(rule ...expr.Any) { add(forward, rule...) })
	}
	add(forward, slices.Concat(into, drop)...)
	return nil
}

var (
	accept = []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}
	drop   = []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}
)

// addRules adds those of one network.
func (n Network) addRules(postrouting, forward func(...expr.Any)) {
	for _, subnet := range n.Subnets {
		if n.Internal || !n.Masquerade {
			break
		}
		of := isOf(unix.NFPROTO_IPV4)
		if subnet.Addr().Is6() {
			of = isOf(unix.NFPROTO_IPV6)
		}
		postrouting(slices.Concat(of, network.Masquerade(subnet, n.Bridge))...)
	}
	within := slices.Concat(device(expr.MetaKeyIIFNAME, n.Bridge), device(expr.MetaKeyOIFNAME, n.Bridge))
	if n.Apart {
		forward(slices.Concat(within, drop)...)
	} else {
		forward(slices.Concat(within, accept)...)
	}
	if n.Internal {
		forward(slices.Concat(device(expr.MetaKeyIIFNAME, n.Bridge), drop)...)
	}
}

// dstNat is the bit in a connection's status that says that its destination was changed: IPS_DST_NAT of
// linux/netfilter/nf_conntrack_common.h.
const dstNat = 1 << 5

// ct asks whether a connection has one of the bits.
func ct(key expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// device asks through which one a packet came, or is about to leave.
func device(key expr.MetaKey, name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: network.Device(name)}}
}

// notLoopback leaves 127.0.0.0/8 and ::1 out: the kernel sends no packet with such an address to another machine.
func notLoopback(v6 bool) []expr.Any {
	if v6 {
		return []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 24, Len: 16},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: netip.IPv6Loopback().AsSlice()},
		}
	}
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{127}},
	}
}
