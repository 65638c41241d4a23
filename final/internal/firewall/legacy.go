//go:build linux

package firewall

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"gocker/step04-overlay/check"
)

// legacyRules are the lines of table filter of iptables-legacy, as its own program prints them; none if the table is not used.
// The kernel keeps these rules beside those of nftables, and lists them in a way that only that program knows.
func legacyRules() ([]string, error) {
	if !strings.Contains(check.Text("/proc/self/net/ip_tables_names"), "filter") {
		return nil, nil
	}
	out, err := exec.Command("iptables-legacy-save", "-t", "filter").Output()
	return strings.Split(string(out), "\n"), err
}

// legacyDropping looks for what drops in a chain of these rules, as drops does in those of nftables.
func legacyDropping(rules []string, chain string) dropping {
	d := dropping{
		name:   chain + " of iptables-legacy",
		accept: fmt.Sprintf("iptables-legacy -I %[1]s -i %%[1]s -j ACCEPT && iptables-legacy -I %[1]s -o %%[1]s -j ACCEPT", chain),
		mentions: func(device string) (bool, error) {
			return slices.ContainsFunc(rules, func(rule string) bool { return legacyMentions(rule, device) }), nil
		},
	}
	policy, last := "", ""
	for _, rule := range rules {
		words := strings.Fields(rule)
		switch {
		case len(words) > 1 && strings.HasPrefix(rule, ":"): // ":FORWARD DROP [0:0]"
			d.chains = append(d.chains, words[0][1:])
			if words[0][1:] == chain {
				policy = words[1]
			}
		case strings.HasPrefix(rule, "-A "+chain+" "):
			last = strings.Join(words[2:], " ")
		}
	}
	verdict, _, _ := strings.Cut(strings.TrimPrefix(last, "-j "), " ") // "-j REJECT --reject-with icmp-port-unreachable"
	switch {
	case policy == "DROP":
		d.what = "the policy DROP"
	case verdict == "DROP", verdict == "REJECT":
		d.what = "the last rule " + verdict
	}
	return d
}

// legacyMentions tells whether a rule is about a device, by its name or a beginning of it: "-A FORWARD -i go+ -j ACCEPT".
func legacyMentions(rule, device string) bool {
	words := strings.Fields(rule)
	for i := 1; i < len(words); i++ {
		begin, isBegin := strings.CutSuffix(words[i], "+")
		if option := words[i-1]; (option == "-i" || option == "-o") && (begin == device || isBegin && begin != "" && strings.HasPrefix(device, begin)) {
			return true
		}
	}
	return false
}
