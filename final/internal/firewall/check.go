//go:build linux

package firewall

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step04-overlay/check"
	"gocker/step05-namespaces/network"
)

// ErrBlocked says that a firewall of the host drops what goes between containers and the world.
var ErrBlocked = errors.New("the host's firewall drops it")

// Checks are those of networks for containers. bridge is the device of the default one.
func Checks(bridge string) []check.Result {
	const name, breaks = "container networks", "containers have no network, or need --network none or host"
	if err := tryAll(); err != nil {
		mend := advice.Of(err)
		if mend == "" {
			mend = "modprobe bridge veth nf_tables nft_nat nft_masq nft_fib_inet, as root"
		}
		return []check.Result{check.Miss(name, err.Error(), breaks, mend).Optional()}
	}
	results := []check.Result{check.Good(name, "can be made: a bridge, a veth pair, rules of nftables").Optional()}
	if err := Blocked(bridge); err != nil {
		return append(results, check.Miss("firewall", err.Error(), "containers reach nothing outside, and nobody reaches them", advice.Of(err)).Optional())
	}
	if strings.Contains(check.Text("/proc/net/ip_tables_names"), "filter") {
		return append(results, check.Miss("firewall", "there are rules of iptables-legacy, which gocker does not see", "perhaps the way out of containers", "look at them: iptables-legacy -S FORWARD").Optional())
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
// names the chain, and what to do. A table that is not ours stays as it is. Rules of iptables-legacy are not seen.
func Blocked(bridge string) error {
	return eachDropping(*nftables.ChainHookForward, func(c *nftables.Conn, d dropping) error {
		if mentioned, err := mentions(c, d.table, bridge); mentioned || err != nil {
			return err
		}
		return advice.Add(fmt.Errorf("%w: %s", ErrBlocked, d), "%s", mend(d, bridge))
	})
}

// Bypassed is an error if a table drops what comes to this host: its rules see no packet that is led on to a container.
func Bypassed() error {
	return eachDropping(*nftables.ChainHookInput, func(_ *nftables.Conn, d dropping) error {
		return advice.Add(fmt.Errorf("the host's firewall does not hold for published ports: %s, and sees only what is for the host itself", d),
			"publish them for one address of the host, -p 127.0.0.1:8080:80, or restrict them by a rule with hook forward")
	})
}

// A dropping chain drops whatever none of its rules accepts.
type dropping struct {
	*nftables.Chain
	what  string
	table []*nftables.Chain // all of the same table
}

func (d dropping) String() string { return fmt.Sprintf("chain %s has %s", d.name(), d.what) }

// name is what nft(8) calls it.
func (d dropping) name() string {
	family := "inet"
	if d.Table.Family == nftables.TableFamilyIPv4 {
		family = "ip"
	}
	return fmt.Sprintf("%s %s %s", family, d.Table.Name, d.Name)
}

// eachDropping calls do for the chains of IPv4 at a hook that drop, until an error.
func eachDropping(hook nftables.ChainHook, do func(*nftables.Conn, dropping) error) error {
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
		what, err := drops(&c, chain)
		if err != nil {
			return err
		}
		if what == "" {
			continue
		}
		table := slices.DeleteFunc(slices.Clone(chains), func(other *nftables.Chain) bool {
			return other.Table.Family != family || other.Table.Name != chain.Table.Name
		})
		if err := do(&c, dropping{chain, what, table}); err != nil {
			return err
		}
	}
	return nil
}

// drops tells what in a chain drops whatever no rule before has accepted; "" if nothing does.
func drops(c *nftables.Conn, chain *nftables.Chain) (what string, err error) {
	if chain.Policy != nil && *chain.Policy == nftables.ChainPolicyDrop {
		return "the policy drop", nil
	}
	rules, err := c.GetRules(chain.Table, chain)
	if err != nil || len(rules) == 0 {
		return "", err
	}
	last := slices.DeleteFunc(rules[len(rules)-1].Exprs, func(e expr.Any) bool { _, isCounter := e.(*expr.Counter); return isCounter })
	if len(last) != 1 {
		return "", nil
	}
	switch e := last[0].(type) {
	case *expr.Reject:
		return "the last rule reject", nil
	case *expr.Verdict:
		if e.Kind == expr.VerdictDrop {
			return "the last rule drop", nil
		}
	}
	return "", nil
}

// mentions tells whether a rule of the chains is about a device, by its name or a beginning of it.
func mentions(c *nftables.Conn, chains []*nftables.Chain, device string) (bool, error) {
	for _, chain := range chains {
		rules, err := c.GetRules(chain.Table, chain)
		if err != nil {
			return false, err
		}
		for _, rule := range rules {
			for _, e := range rule.Exprs {
				cmp, ok := e.(*expr.Cmp)
				if !ok {
					continue
				}
				if name := string(bytes.TrimRight(cmp.Data, "\x00")); name == device || len(cmp.Data) == len(name) && len(name) > 1 && strings.HasPrefix(device, name) {
					return true, nil
				}
			}
		}
	}
	return false, nil
}

// mend is how to let a bridge through. What keeps rules somewhere else has to be told there, or they are gone the next time
// that it starts.
func mend(d dropping, bridge string) string {
	command := "nft insert rule " + d.name() + " iifname %[1]s accept && nft insert rule " + d.name() + " oifname %[1]s accept"
	for _, known := range []struct{ chain, command string }{
		{"ufw-user-forward", "ufw route allow in on %[1]s && ufw route allow out on %[1]s"},
		{"DOCKER-USER", "iptables -I DOCKER-USER -i %[1]s -j ACCEPT && iptables -I DOCKER-USER -o %[1]s -j ACCEPT"},
		{"filter_FORWARD_POLICIES_pre", "firewall-cmd --permanent --zone=trusted --add-interface=%[1]s && firewall-cmd --reload"},
	} {
		if slices.ContainsFunc(d.table, func(c *nftables.Chain) bool { return c.Name == known.chain }) {
			command = known.command
		}
	}
	return "let the network through: " + fmt.Sprintf(command, bridge)
}
