//go:build linux

package firewall_test

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gocker/final/internal/firewall"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/testenv"
)

// TestMain runs the tests in a network namespace that stands for the host.
func TestMain(m *testing.M) {
	testenv.Alone()
	os.Exit(m.Run())
}

const table firewall.Table = "gocker"

var networks = []firewall.Network{
	{Bridge: "gocker0", Subnets: []netip.Prefix{netip.MustParsePrefix("172.17.0.0/16")}, Masquerade: true},
	{Bridge: "inner", Subnets: []netip.Prefix{netip.MustParsePrefix("172.18.0.0/16"), netip.MustParsePrefix("fd00::/64")}, Internal: true},
	{Bridge: "apart", Subnets: []netip.Prefix{netip.MustParsePrefix("fd01::/64")}, Apart: true, Masquerade: true},
}

func port(host string, protocol uint8, to string) firewall.Port {
	return firewall.Port{Host: netip.MustParseAddrPort(host), Protocol: protocol, To: netip.MustParseAddrPort(to)}
}

var ports = []firewall.Port{
	port("0.0.0.0:8080", unix.IPPROTO_TCP, "172.17.0.2:80"),
	port("203.0.113.1:53", unix.IPPROTO_UDP, "172.17.0.2:53"),
	port("[::]:8080", unix.IPPROTO_TCP, "[fd01::2]:80"),
	port("[fd05::1]:8080", unix.IPPROTO_SCTP, "[fd01::2]:80"),
}

// list is the table as nft(8) shows it, or "" if there is none.
func list(t *testing.T) string {
	testenv.Needs(t, "nft")
	out, _ := exec.Command("nft", "list", "table", "inet", string(table)).Output()
	return strings.Join(strings.Fields(string(out)), " ")
}

func TestWriteReplacesTheTable(t *testing.T) {
	testenv.NeedRoot(t)
	t.Cleanup(func() { table.Write(nil, nil) })
	for range 2 {
		if err := table.Write(networks, ports); err != nil {
			t.Fatal(err)
		}
	}
	got := list(t)
	for _, want := range []string{
		`elements = { tcp . 8080 : 172.17.0.2 . 80 }`, `elements = { 203.0.113.1 . udp . 53 : 172.17.0.2 . 53 }`,
		`elements = { tcp . 8080 : fd01::2 . 80 }`, `elements = { fd05::1 . sctp . 8080 : fd01::2 . 80 }`,
		`ip saddr 172.17.0.0/16 oifname != "gocker0" counter packets 0 bytes 0 masquerade`,
		`ip6 saddr fd01::/64 oifname != "apart" counter packets 0 bytes 0 masquerade`,
		`iifname "gocker0" oifname "gocker0" accept`, `iifname "apart" oifname "apart" drop`,
		`iifname "inner" oifname "inner" accept iifname "inner" drop`, `oifname @bridges drop }`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("want %s in\n%s", want, got)
		}
	}
	if strings.Contains(got, "172.18.0.0/16") {
		t.Errorf("an internal network is masqueraded:\n%s", got)
	}
	if err := table.Write(nil, nil); err != nil {
		t.Fatal(err)
	}
	if got := list(t); got != "" {
		t.Errorf("without networks there is\n%s", got)
	}
}

func TestTheTextMakesTheSameTable(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Needs(t, "nft")
	t.Cleanup(func() { table.Write(nil, nil) })
	if err := table.Write(networks, ports); err != nil {
		t.Fatal(err)
	}
	want := list(t)
	if err := table.Write(nil, nil); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(table.Text(networks, ports))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft -f: %v\n%s", err, out)
	}
	if got := list(t); got != want {
		t.Errorf("by nft:\n%s\nby Write:\n%s", got, want)
	}
}

func TestPortsComeAndGoAllOrNone(t *testing.T) {
	testenv.NeedRoot(t)
	if err := table.Write(networks, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { table.Write(nil, nil) })
	first := []firewall.Port{port("0.0.0.0:80", unix.IPPROTO_TCP, "172.17.0.2:80")}
	both := []firewall.Port{port("0.0.0.0:81", unix.IPPROTO_TCP, "172.17.0.3:80"), port("0.0.0.0:80", unix.IPPROTO_TCP, "172.17.0.3:80")}
	var many []firewall.Port
	for i := range uint16(20_000) {
		p := port("0.0.0.0:1", unix.IPPROTO_UDP, "172.17.0.2:1")
		p.Host, p.To = netip.AddrPortFrom(p.Host.Addr(), 1000+i), netip.AddrPortFrom(p.To.Addr(), 2000+i)
		many = append(many, p)
	}
	for _, step := range []struct {
		name  string
		do    func([]firewall.Port) error
		ports []firewall.Port
		want  error
		count int
	}{
		{"publish", table.Publish, first, nil, 1},
		{"publish one that is taken", table.Publish, both, firewall.ErrTaken, 1},
		{"unpublish one that is not there", table.Unpublish, both, unix.ENOENT, 1},
		{"publish 20,000", table.Publish, many, nil, 20_001},
		{"unpublish them", table.Unpublish, many, nil, 1},
		{"unpublish", table.Unpublish, first, nil, 0},
	} {
		if err := step.do(step.ports); !errors.Is(err, step.want) {
			t.Errorf("%s: %v, want %v", step.name, err, step.want)
		}
		if got := strings.Count(list(t), " : 172."); got != step.count {
			t.Errorf("after %s there are %d ports, want %d", step.name, got, step.count)
		}
	}
}

func TestPresentSeesAFlush(t *testing.T) {
	testenv.NeedRoot(t)
	if err := table.Write(networks, nil); err != nil {
		t.Fatal(err)
	}
	if present, err := table.Present(); !present || err != nil {
		t.Errorf("Present = %v, %v", present, err)
	}
	testenv.Needs(t, "nft")
	if err := exec.Command("nft", "flush", "ruleset").Run(); err != nil {
		t.Fatal(err)
	}
	if present, err := table.Present(); present || err != nil {
		t.Errorf("Present after nft flush ruleset = %v, %v", present, err)
	}
}

func TestTheHostsFirewallIsSeen(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Needs(t, "nft", "iptables-nft")
	for _, tt := range []struct{ name, setup, want string }{
		{"none", ":", ""},
		{"a policy", "nft 'add table inet f; add chain inet f fw { type filter hook forward priority 0; policy drop; }'",
			"chain inet f fw has the policy drop\n  let the network through: nft insert rule inet f fw iifname gocker0 accept && nft insert rule inet f fw oifname gocker0 accept"},
		{"a last rule", "nft 'add table ip f; add chain ip f fw { type filter hook forward priority 0; }; add rule ip f fw ct state established accept; add rule ip f fw counter reject'",
			"chain ip f fw has the last rule reject\n  let the network through: nft insert rule ip f fw"},
		{"docker's", "iptables-nft -P FORWARD DROP; iptables-nft -N DOCKER-USER; iptables-nft -I FORWARD -j DOCKER-USER",
			"chain ip filter FORWARD has the policy drop\n  let the network through: iptables -I DOCKER-USER -i gocker0 -j ACCEPT && "},
		{"a beginning of names is let through", "nft 'add table inet f; add chain inet f fw { type filter hook forward priority 0; policy drop; }; add chain inet f more; add rule inet f more iifname \"go*\" accept'", ""},
		{"another beginning", "nft 'add table inet f; add chain inet f fw { type filter hook forward priority 0; policy drop; }; add rule inet f fw iifname \"gocker1\" accept; add rule inet f fw iifname \"gob*\" accept'",
			"chain inet f fw has the policy drop"},
		{"a policy of iptables-legacy", "iptables-legacy -P FORWARD DROP",
			"chain FORWARD of iptables-legacy has the policy DROP\n  let the network through: iptables-legacy -I FORWARD -i gocker0 -j ACCEPT && iptables-legacy -I FORWARD -o gocker0 -j ACCEPT"},
		{"a last rule of iptables-legacy", "iptables-legacy -A FORWARD -i eth9 -j ACCEPT; iptables-legacy -A FORWARD -j REJECT",
			"chain FORWARD of iptables-legacy has the last rule REJECT\n"},
		{"docker's, by iptables-legacy", "iptables-legacy -P FORWARD DROP; iptables-legacy -N DOCKER-USER; iptables-legacy -A FORWARD -j DOCKER-USER",
			"let the network through: iptables-legacy -I DOCKER-USER -i gocker0 -j ACCEPT && "},
		{"iptables-legacy lets a beginning of names through", "iptables-legacy -P FORWARD DROP; iptables-legacy -A FORWARD -i go+ -j ACCEPT", ""},
		{"iptables-legacy drops what is for the host", "iptables-legacy -P INPUT DROP", ""},
		{"iptables-legacy drops some", "iptables-legacy -A FORWARD -i eth9 -j DROP", ""},
		{"a value that is not dropped", "nft 'add table inet f; add chain inet f fw { type filter hook forward priority 0; }; add rule inet f fw accept'", ""},
		{"another hook", "nft 'add table inet f; add chain inet f in { type filter hook output priority 0; policy drop; }'", ""},
		{"a rule for some", "nft 'add table inet f; add chain inet f fw { type filter hook forward priority 0; }; add rule inet f fw iifname eth9 drop'", ""},
		{"our own", "nft 'add table inet gocker; add chain inet gocker fw { type filter hook forward priority 0; policy drop; }'", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Cleanup(func() { exec.Command("nft", "flush", "ruleset").Run() })
			if strings.Contains(tt.setup, "iptables-legacy") {
				legacyRules(t)
			}
			sh := func(command string) {
				if out, err := exec.Command("sh", "-ec", command).CombinedOutput(); err != nil {
					t.Fatalf("%s: %v\n%s", command, err, out)
				}
			}
			sh(tt.setup)
			err := firewall.Blocked("gocker0")
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error()+"\n  "+advice.Of(err), tt.want) {
				t.Errorf("Blocked = %v\n  %s, want %q", err, advice.Of(err), tt.want)
			}
			if err == nil {
				return
			}
			// What it says helps.
			_, command, _ := strings.Cut(advice.Of(err), ": ")
			sh(strings.ReplaceAll(command, "iptables ", "iptables-nft "))
			if err := firewall.Blocked("gocker0"); err != nil {
				t.Errorf("after %s: %v", command, err)
			}
		})
	}
}

// legacyRules skips a test on a kernel without the rules of iptables-legacy, and removes them at its end.
func legacyRules(t *testing.T) {
	testenv.Needs(t, "iptables-legacy", "iptables-legacy-save")
	if out, err := exec.Command("iptables-legacy", "-S").CombinedOutput(); err != nil {
		t.Skipf("this kernel has no rules of iptables-legacy: %s", out)
	}
	t.Cleanup(func() {
		exec.Command("sh", "-c", "iptables-legacy -F; iptables-legacy -X; iptables-legacy -P FORWARD ACCEPT; iptables-legacy -P INPUT ACCEPT").Run()
	})
}

func TestAnInputChainThatPublishedPortsPassByIsNamed(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Needs(t, "nft")
	if err := firewall.Bypassed(); err != nil {
		t.Errorf("Bypassed without rules = %v", err)
	}
	t.Cleanup(func() { exec.Command("nft", "flush", "ruleset").Run() })
	rules := "add table inet f; add chain inet f in { type filter hook input priority 0; policy drop; }"
	if out, err := exec.Command("nft", rules).CombinedOutput(); err != nil {
		t.Fatalf("nft %s: %v\n%s", rules, err, out)
	}
	if err := firewall.Bypassed(); err == nil || !strings.Contains(err.Error(), "chain inet f in has the policy drop") {
		t.Errorf("Bypassed = %v, want the name of the chain", err)
	}
	exec.Command("nft", "flush", "ruleset").Run()
	legacyRules(t)
	if out, err := exec.Command("iptables-legacy", "-P", "INPUT", "DROP").CombinedOutput(); err != nil {
		t.Fatalf("iptables-legacy: %v\n%s", err, out)
	}
	if err := firewall.Bypassed(); err == nil || !strings.Contains(err.Error(), "chain INPUT of iptables-legacy has the policy DROP") {
		t.Errorf("Bypassed = %v, want the name of the chain of iptables-legacy", err)
	}
}

// A container is connected to another network while it runs, and may need the resolver then, or have it already.
func TestDivertingTwiceIsDivertingOnce(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Needs(t, "nft")
	t.Cleanup(func() { exec.Command("nft", "delete", "table", "ip", "gocker").Run() })
	for range 2 {
		if err := firewall.Divert(netip.MustParseAddrPort("127.0.0.11:53"), 47053); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("nft", "list", "table", "ip", "gocker").Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, protocol := range []string{"udp", "tcp"} {
			want := "ip daddr 127.0.0.11 " + protocol + " dport 53 dnat to 127.0.0.11:47053"
			if n := strings.Count(string(out), want); n != 1 {
				t.Errorf("%d rules say %q; want 1:\n%s", n, want, out)
			}
		}
	}
}
