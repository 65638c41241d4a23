package resolver

import (
	"net/netip"
	"os"
	"strings"
)

// A Conf is what a resolv.conf says: see resolv.conf(5).
type Conf struct {
	Servers []netip.AddrPort // those of IPv6 may have a zone: fe80::1%eth0
	Search  []string         // domains
	Options []string         // such as ndots:0
}

// ReadConf reads a resolv.conf. As libc does, it passes over lines that it does not understand.
func ReadConf(path string) (Conf, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return Conf{}, err
	}
	var c Conf
	for line := range strings.Lines(string(raw)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] { // a comment's is none of these
		case "nameserver":
			if addr, err := netip.ParseAddr(fields[1]); err == nil {
				c.Servers = append(c.Servers, netip.AddrPortFrom(addr, 53))
			}
		case "domain":
			c.Search = fields[1:2]
		case "search": // the last one of these two holds
			c.Search = fields[1:]
		case "options":
			c.Options = append(c.Options, fields[1:]...)
		}
	}
	return c, nil
}
