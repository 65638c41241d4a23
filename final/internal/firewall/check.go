//go:build linux

package firewall

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step04-overlay/check"
	"gocker/step05-namespaces/network"
)

// ErrBlocked says that a firewall of the host drops what goes between containers and the world.
var ErrBlocked = errors.New("the host's firewall drops it")

// Kernel checks that networks for containers can be made.
func Kernel() check.Result {
	const name, breaks = "container networks", "containers have no network, or need --network none or host"
	if err := tryAll(); err != nil {
		mend := check.Privilege().Mend // without it no module helps
		mend = cmp.Or(mend, advice.Of(err), "modprobe bridge veth nf_tables nft_nat nft_masq nft_fib_inet, as root")
		return check.Miss(name, err.Error(), breaks, mend).Optional()
	}
	return check.Good(name, "can be made: a bridge, a veth pair, rules of nftables").Optional()
}

// Checks are those of networks for containers. bridge is the device of the default one.
func Checks(bridge string) []check.Result {
	results := []check.Result{Kernel()}
	if !results[0].OK {
		return results
	}
	if err := Blocked(bridge); err != nil {
		return append(results, check.Miss("firewall", err.Error(), "containers reach nothing outside, and nobody reaches them", advice.Of(err)).Optional())
	}
	if _, err := legacyRules(); err != nil {
		return append(results, check.Miss("firewall", "there are rules of iptables-legacy that gocker cannot read: "+err.Error(), "perhaps the way out of containers", "look at them: iptables-legacy -S FORWARD").Optional())
	}
	return append(results, check.Good("firewall", "no rule of the host drops what it does not know").Optional())
}

// tryAll makes a network in a network namespace that goes with its thread.
func tryAll() error {
	return check.OnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		subnet := netip.MustParsePrefix("172.17.0.1/16")
		if err := (network.Switch{Name: "check0", Addrs: []netip.Prefix{subnet}}).Make(); err != nil {
			return err
		}
		if err := (network.Cable{Host: "check1", Switch: "check0", Pid: unix.Gettid(), Device: "check2"}).Lay(); err != nil {
			return err
		}
		port := Port{Host: netip.MustParseAddrPort("0.0.0.0:80"), Protocol: unix.IPPROTO_TCP, To: netip.MustParseAddrPort("172.17.0.2:80")}
		return Table("check").Write([]Network{{Bridge: "check0", Subnets: []netip.Prefix{subnet}, Masquerade: true}}, []Port{port})
	})
}

// Blocked is ErrBlocked if another table drops all that goes from one device to another, and says nothing of a bridge: it
// names the chain, and what to do. A table that is not ours stays as it is.
func Blocked(bridge string) error {
	return eachDropping(*nftables.ChainHookForward, "FORWARD", func(d dropping) error {
		if mentioned, err := d.mentions(bridge); mentioned || err != nil {
			return err
		}
		return advice.Add(fmt.Errorf("%w: %s", ErrBlocked, d), "%s", mend(d, bridge))
	})
}

// Bypassed is an error if a table drops what comes to this host: its rules see no packet that is led on to a container.
func Bypassed() error {
	return eachDropping(*nftables.ChainHookInput, "INPUT", func(d dropping) error {
		return advice.Add(fmt.Errorf("the host's firewall does not hold for published ports: %s, and sees only what is for the host itself", d),
			"publish them for one address of the host, -p 127.0.0.1:8080:80, or restrict them by a rule with hook forward")
	})
}

// A dropping chain drops whatever none of its rules accepts.
type dropping struct {
	name, what string
	chains     []string // all of the same table
	mentions   func(device string) (bool, error)
	accept     string // the command that lets a device through, %[1]s
}

func (d dropping) String() string { return fmt.Sprintf("chain %s has %s", d.name, d.what) }

// nameOf is what nft(8) calls a chain.
func nameOf(c *nftables.Chain) string {
	family := "inet"
	if c.Table.Family == nftables.TableFamilyIPv4 {
		family = "ip"
	}
	return fmt.Sprintf("%s %s %s", family, c.Table.Name, c.Name)
}

// eachDropping calls do for the chains of IPv4 at a hook that drop, until an error. legacy is the name that iptables-legacy has
// for the hook.
func eachDropping(hook nftables.ChainHook, legacy string, do func(dropping) error) error {
	if rules, err := legacyRules(); err == nil { // else "gocker doctor" says so
		if d := legacyDropping(rules, legacy); d.what != "" {
			if err := do(d); err != nil {
				return err
			}
		}
	}
	var c nftables.Conn
	chains, err := c.ListChains()
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT) {
		return nil // then there is no rule either
	}
	if err != nil {
		return fmt.Errorf("list the chains of nftables: %w", err)
	}
	for _, chain := range chains {
		family := chain.Table.Family
		if chain.Hooknum == nil || *chain.Hooknum != hook || chain.Type != nftables.ChainTypeFilter ||
			family != nftables.TableFamilyIPv4 && family != nftables.TableFamilyINet || strings.HasPrefix(chain.Table.Name, "gocker") {
			continue
		}
		what, err := drops(chain)
		if err != nil {
			return err
		}
		if what == "" {
			continue
		}
		d := dropping{name: nameOf(chain), what: what}
		d.accept = fmt.Sprintf("nft insert rule %[1]s iifname %%[1]s accept && nft insert rule %[1]s oifname %%[1]s accept", d.name)
		d.mentions = func(device string) (bool, error) { return mentions(chain.Table, device) }
		for _, other := range chains {
			if other.Table.Family == family && other.Table.Name == chain.Table.Name {
				d.chains = append(d.chains, other.Name)
			}
		}
		if err := do(d); err != nil {
			return err
		}
	}
	return nil
}

// drops tells what in a chain drops whatever no rule before has accepted; "" if nothing does.
func drops(chain *nftables.Chain) (what string, err error) {
	if chain.Policy != nil && *chain.Policy == nftables.ChainPolicyDrop {
		return "the policy drop", nil
	}
	rules, err := messages(chain.Table, chain.Name)
	if err != nil || len(rules) == 0 {
		return "", err
	}
	last, err := expressions(rules[len(rules)-1])
	if err != nil || len(last) != 1 {
		return "", err
	}
	verdict := expr.Verdict{Kind: expr.VerdictContinue}
	switch last[0].name {
	case "reject":
		return "the last rule reject", nil
	case "immediate":
		if err := expr.Unmarshal(byte(chain.Table.Family), last[0].data, &verdict); err == nil && verdict.Kind == expr.VerdictDrop {
			return "the last rule drop", nil
		}
	}
	return "", nil
}

// messages are those in which the kernel lists the rules of a table, or of one of its chains. There may be thousands, and each start
// of a container looks at them. So nobody makes more of them than is asked for.
func messages(table *nftables.Table, chain string) ([]netlink.Message, error) {
	attributes := []netlink.Attribute{{Type: unix.NFTA_RULE_TABLE, Data: []byte(table.Name + "\x00")}}
	if chain != "" {
		attributes = append(attributes, netlink.Attribute{Type: unix.NFTA_RULE_CHAIN, Data: []byte(chain + "\x00")})
	}
	data, err := netlink.MarshalAttributes(attributes)
	if err != nil {
		return nil, err
	}
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	rules, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE, Flags: netlink.Request | netlink.Dump},
		Data:   append([]byte{byte(table.Family), unix.NFNETLINK_V0, 0, 0}, data...), // struct nfgenmsg
	})
	if err != nil {
		return nil, fmt.Errorf("list the rules of table %s of nftables: %w", table.Name, err)
	}
	return rules, nil
}

// An expression is a part of a rule, as the kernel lists it.
type expression struct {
	name string
	data []byte
}

// expressions are those of a rule, without counters.
func expressions(rule netlink.Message) (found []expression, err error) {
	ad, err := netlink.NewAttributeDecoder(rule.Data[4:]) // behind struct nfgenmsg
	if err != nil {
		return nil, err
	}
	element := func(ad *netlink.AttributeDecoder) error {
		var e expression
		for ad.Next() {
			switch ad.Type() {
			case unix.NFTA_EXPR_NAME:
				e.name = ad.String()
			case unix.NFTA_EXPR_DATA:
				e.data = ad.Bytes()
			}
		}
		if e.name != "counter" {
			found = append(found, e)
		}
		return nil
	}
	for ad.Next() {
		if ad.Type() == unix.NFTA_RULE_EXPRESSIONS {
			ad.Nested(func(ad *netlink.AttributeDecoder) error {
				for ad.Next() {
					ad.Nested(element)
				}
				return nil
			})
		}
	}
	return found, ad.Err()
}

// mentions tells whether a rule of a table is about a device, by its name or a beginning of it.
func mentions(table *nftables.Table, device string) (bool, error) {
	rules, err := messages(table, "")
	return slices.ContainsFunc(rules, func(rule netlink.Message) bool { return compares(rule.Data, device) }), err
}

// compares tells whether a rule compares something with a device's name. In its message that is an attribute: the length, the type,
// and the name with a zero behind it, or a beginning of it with none.
func compares(rule []byte, device string) bool {
	const header = unix.SizeofNlAttr
	begin := []byte(device[:min(2, len(device))])
	for at := header; at < len(rule); at++ {
		next := bytes.Index(rule[at:], begin)
		if next < 0 {
			return false
		}
		at += next
		end := at - header + int(binary.NativeEndian.Uint16(rule[at-header:]))
		if binary.NativeEndian.Uint16(rule[at-2:]) != unix.NFTA_DATA_VALUE || end < at || end > len(rule) {
			continue
		}
		value := rule[at:end]
		if name := string(bytes.TrimRight(value, "\x00")); name == device || len(value) == len(name) && len(name) > 1 && strings.HasPrefix(device, name) {
			return true
		}
	}
	return false
}

// mend is the command that lets a bridge through. Some programs write all their rules anew when they start. Such a program has a
// command or a chain of its own for rules that last.
func mend(d dropping, bridge string) string {
	command := d.accept
	for _, known := range []struct{ chain, command string }{
		{"ufw-user-forward", "ufw route allow in on %[1]s && ufw route allow out on %[1]s"},
		{"DOCKER-USER", "iptables -I DOCKER-USER -i %[1]s -j ACCEPT && iptables -I DOCKER-USER -o %[1]s -j ACCEPT"},
		{"filter_FORWARD_POLICIES_pre", "firewall-cmd --permanent --zone=trusted --add-interface=%[1]s && firewall-cmd --reload"},
	} {
		if slices.Contains(d.chains, known.chain) {
			command = known.command
		}
	}
	if legacy, _, ok := strings.Cut(d.accept, " -I"); ok {
		command = strings.ReplaceAll(command, "iptables ", legacy+" ") // "iptables" may be that of nftables
	}
	return "let the network through: " + fmt.Sprintf(command, bridge)
}
