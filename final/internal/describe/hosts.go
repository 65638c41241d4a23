//go:build linux

package describe

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/final/internal/networks"
	"gocker/final/internal/rootless"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step04-overlay/overlay"
	"gocker/step04-overlay/story"
)

// Names are flags of "run" that say how a container finds others.
type Names struct {
	Hosts                      []string // NAME:ADDRESS
	DNS, DNSSearch, DNSOptions []string
}

// Files are those that a description writes into the container's folder.
var Files = append([]string{initName}, nameFiles...)

var nameFiles = []string{"hosts", "hostname", "resolv.conf"}

// hostsOfAll is what docker has in /etc/hosts.
const hostsOfAll = `127.0.0.1	localhost
::1	localhost ip6-localhost ip6-loopback
fe00::	ip6-localnet
ff00::	ip6-mcastprefix
ff02::1	ip6-allnodes
ff02::2	ip6-allrouters
`

// Connected is what a container's networks add to its names. It is known when the container starts.
type Connected struct {
	Addrs    []netip.Addr        // its own
	Gateway  netip.Addr          // the host's, on the network that leads out
	Links    map[string][]string // names of others, by their addresses
	Resolver bool                // gocker answers its questions for names, at networks.ResolverAddr
}

// ConnectedTo is what the networks add that a container is on. linked are the others that it is to find by name.
func ConnectedTo(endpoints []networks.Endpoint, linked map[string][]string) Connected {
	c := Connected{Links: linked}
	for _, e := range endpoints {
		for _, addr := range e.Addrs {
			c.Addrs = append(c.Addrs, addr.Addr())
		}
		if len(e.Routers) > 0 && !c.Gateway.IsValid() {
			c.Gateway = e.Routers[0]
		}
	}
	if c.Gateway.IsValid() && rootless.Apart() { // there the router is not the host
		c.Gateway = rootless.HostAddr()
	}
	return c
}

// folderOfOther is that of the container whose network a container shares, or "".
func folderOfOther(f *overlay.FS, opts Options) string {
	if other, ok := strings.CutPrefix(opts.Isolation.Network, ofContainer); ok {
		return filepath.Join(filepath.Dir(f.Dir), dirs.Short(other))
	}
	return ""
}

// othersHostname is what a container is called that shares the network of another: as that, or else own.
func othersHostname(f *overlay.FS, opts Options, own string) string {
	if folder := folderOfOther(f, opts); folder != "" {
		if name, err := os.ReadFile(filepath.Join(folder, "hostname")); err == nil {
			return strings.TrimSpace(string(name))
		}
	}
	return own
}

// addNames mounts the files /etc/hosts, hostname and resolv.conf of a container, which are in its folder, so that they are
// its own and nobody's image. One that shares the network of another container has those of that.
func addNames(f *overlay.FS, spec *specs.Spec, hostname string, options Options) error {
	opts := options.Names
	folder := f.Dir
	if other := folderOfOther(f, options); other != "" {
		if len(opts.Hosts)+len(opts.DNS)+len(opts.DNSSearch)+len(opts.DNSOptions) > 0 {
			return fmt.Errorf("--add-host and --dns: %w where the network is another container's", ErrOption)
		}
		folder = other
	} else if err := WriteNames(f, hostname, options, Connected{}); err != nil {
		return err
	}
	for _, name := range nameFiles {
		destination := filepath.Join("/etc", name)
		isMounted := slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool { return m.Destination == destination })
		if isMounted || !isThere(filepath.Join(folder, name)) {
			continue // the user has another one, or the other container's
		}
		m := specs.Mount{Destination: destination, Type: "bind", Source: filepath.Join(folder, name), Options: []string{"rbind", "rprivate"}}
		if options.Mounts.Readonly { // they belong to the root, which nobody may change
			m.Options = append(m.Options, "ro")
		}
		spec.Mounts = append(spec.Mounts, m)
	}
	return nil
}

// WriteNames writes these files. They may be mounted: so they are written and not replaced.
func WriteNames(f *overlay.FS, hostname string, options Options, c Connected) error {
	hosts, err := hostsOf(hostname, options, c)
	if err != nil {
		return err
	}
	resolv, err := resolvOf(options.Names, c)
	if err != nil {
		return err
	}
	for i, text := range [][]byte{hosts, []byte(hostname + "\n"), resolv} {
		file := filepath.Join(f.Dir, nameFiles[i])
		if err := os.WriteFile(file, text, 0o644); err != nil {
			return err
		}
		if isLast := len(options.Network.Wants) == 0 || len(c.Addrs) > 0; f.Tell != nil && isLast {
			f.Tell.Sh(story.Host, "the file that will be its /etc/"+nameFiles[i], story.Quote("printf", "%s", string(text))+" >"+story.Quote(file))
		}
	}
	return nil
}

func hostsOf(hostname string, options Options, c Connected) ([]byte, error) {
	hosts := []byte(hostsOfAll)
	if options.Isolation.Network == "host" {
		if own, err := os.ReadFile("/etc/hosts"); err == nil {
			hosts = own
		}
	} else if len(options.Network.Wants) == 0 {
		c.Addrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	names := hostname
	if domain := options.Attributes.Domainname; domain != "" {
		names += "." + domain
	}
	if short, _, ok := strings.Cut(names, "."); ok { // as docker has it: the whole name first
		names += " " + short
	}
	for _, addr := range c.Addrs {
		hosts = fmt.Appendf(hosts, "%s\t%s\n", addr, names)
	}
	for _, addr := range slices.Sorted(maps.Keys(c.Links)) {
		hosts = fmt.Appendf(hosts, "%s\t%s\n", addr, strings.Join(c.Links[addr], " "))
	}
	for _, host := range options.Names.Hosts {
		name, address, ok := strings.Cut(host, ":")
		if before, after, equals := strings.Cut(host, "="); equals {
			name, address, ok = before, after, true
		}
		ip, err := netip.ParseAddr(strings.Trim(address, "[]"))
		if address == "host-gateway" {
			if ip, err = c.Gateway, nil; !ip.IsValid() {
				if len(options.Network.Wants) > 0 {
					continue // it does not run yet, or no network leads out
				}
				return nil, advice.Add(fmt.Errorf("--add-host %q: %w: without a network there is no way to the host", host, ErrOption), "choose a network, or another address")
			}
		}
		if !ok || name == "" || strings.ContainsAny(name, " \t\n#") || err != nil {
			return nil, advice.Add(fmt.Errorf("--add-host %q: %w", host, ErrOption), "write NAME:ADDRESS, or NAME:host-gateway")
		}
		hosts = fmt.Appendf(hosts, "%s\t%s\n", ip, name)
	}
	return hosts, nil
}

// resolvOf is /etc/resolv.conf. Without a network of its own nobody is asked, but programs want the file.
func resolvOf(opts Names, c Connected) ([]byte, error) {
	host, _ := os.ReadFile("/etc/resolv.conf")
	if !c.Resolver && len(opts.DNS)+len(opts.DNSSearch)+len(opts.DNSOptions) == 0 {
		return host, nil
	}
	for _, server := range opts.DNS {
		if _, err := netip.ParseAddr(server); err != nil {
			return nil, fmt.Errorf("--dns %q: %w: it is no address", server, ErrOption)
		}
	}
	servers := slices.Clip(opts.DNS)
	if c.Resolver {
		servers = []string{networks.ResolverAddr}
	}
	// "." is no domain, and keeps those of the host away.
	search := slices.DeleteFunc(slices.Clone(opts.DNSSearch), func(domain string) bool { return domain == "." })
	own := map[string][]string{"search": search, "options": opts.DNSOptions}
	for _, word := range []string{"search", "options"} {
		values := own[word]
		if strings.ContainsAny(strings.Join(values, " "), "\n\r") {
			return nil, fmt.Errorf("--dns-%s %q: %w", word, values, ErrOption)
		}
	}
	for line := range strings.Lines(string(host)) {
		words := strings.Fields(line)
		switch {
		case len(words) < 2:
		case words[0] == "nameserver" && len(opts.DNS) == 0 && !c.Resolver:
			servers = append(servers, words[1])
		case (words[0] == "search" || words[0] == "domain") && len(opts.DNSSearch) == 0:
			own["search"] = words[1:] // the last line counts
		case words[0] == "options" && len(opts.DNSOptions) == 0:
			own["options"] = append(own["options"], words[1:]...)
		}
	}
	// Else a client asks the world for "db.example.com" before it asks for "db": see resolv.conf(5).
	if c.Resolver && !slices.ContainsFunc(own["options"], func(o string) bool { return strings.HasPrefix(o, "ndots:") }) {
		own["options"] = append(slices.Clip(own["options"]), "ndots:0")
	}
	var b bytes.Buffer
	for _, server := range servers {
		fmt.Fprintf(&b, "nameserver %s\n", server)
	}
	for _, word := range []string{"search", "options"} {
		if len(own[word]) > 0 {
			fmt.Fprintf(&b, "%s %s\n", word, strings.Join(own[word], " "))
		}
	}
	return b.Bytes(), nil
}
