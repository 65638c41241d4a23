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

	"gocker/step01-pull/shared/advice"
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

// addNames writes the files /etc/hosts, hostname and resolv.conf of a container, which are in its folder, so that they are
// its own and nobody's image. One that shares the network of another container has those of that, and one with the host's
// network begins with the host's.
func addNames(f *overlay.FS, spec *specs.Spec, hostname string, options Options) error {
	opts := options.Names
	folder := f.Dir
	if other, ok := strings.CutPrefix(options.Isolation.Network, ofContainer); ok {
		if len(opts.Hosts)+len(opts.DNS)+len(opts.DNSSearch)+len(opts.DNSOptions) > 0 {
			return fmt.Errorf("--add-host and --dns: %w where the network is another container's", ErrOption)
		}
		folder = filepath.Join(filepath.Dir(f.Dir), other)
	} else {
		files, err := namesOf(hostname, options.Isolation.Network == "host", opts)
		if err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(files)) {
			file := filepath.Join(folder, name)
			if err := os.WriteFile(file, files[name], 0o644); err != nil {
				return err
			}
			if f.Tell != nil {
				f.Tell.Sh(story.Host, "what is to be its /etc/"+name, story.Quote("printf", "%s", string(files[name]))+" >"+story.Quote(file))
			}
		}
	}
	for _, name := range nameFiles {
		destination := filepath.Join("/etc", name)
		isMounted := slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool { return m.Destination == destination })
		if isMounted || !isThere(filepath.Join(folder, name)) {
			continue // the user has another one, or the other container's
		}
		spec.Mounts = append(spec.Mounts, specs.Mount{
			Destination: destination, Type: "bind", Source: filepath.Join(folder, name), Options: []string{"rbind", "rprivate"},
		})
	}
	return nil
}

func namesOf(hostname string, asHost bool, opts Names) (map[string][]byte, error) {
	hosts := []byte(hostsOfAll)
	if asHost {
		if own, err := os.ReadFile("/etc/hosts"); err == nil {
			hosts = own
		}
	} else {
		hosts = fmt.Appendf(hosts, "127.0.0.1\t%s\n", hostname)
	}
	for _, host := range opts.Hosts {
		name, address, ok := strings.Cut(host, ":")
		if before, after, equals := strings.Cut(host, "="); equals {
			name, address, ok = before, after, true
		}
		ip, err := netip.ParseAddr(strings.Trim(address, "[]"))
		if !ok || name == "" || strings.ContainsAny(name, " \t\n#") || err != nil {
			return nil, advice.Add(fmt.Errorf("--add-host %q: %w", host, ErrOption), "write NAME:ADDRESS")
		}
		hosts = fmt.Appendf(hosts, "%s\t%s\n", ip, name)
	}
	// Without a network of its own nobody is asked, but programs want the file.
	resolv, _ := os.ReadFile("/etc/resolv.conf")
	if len(opts.DNS)+len(opts.DNSSearch)+len(opts.DNSOptions) > 0 {
		var b bytes.Buffer
		for _, server := range opts.DNS {
			if _, err := netip.ParseAddr(server); err != nil {
				return nil, fmt.Errorf("--dns %q: %w: it is no address", server, ErrOption)
			}
			fmt.Fprintf(&b, "nameserver %s\n", server)
		}
		if len(opts.DNS) == 0 {
			b.Write(resolv)
		}
		for word, values := range map[string][]string{"search": opts.DNSSearch, "options": opts.DNSOptions} {
			if text := strings.Join(values, " "); strings.ContainsAny(text, "\n\r") {
				return nil, fmt.Errorf("--dns-%s %q: %w", word, text, ErrOption)
			} else if text != "" {
				fmt.Fprintf(&b, "%s %s\n", word, text)
			}
		}
		resolv = b.Bytes()
	}
	return map[string][]byte{"hosts": hosts, "hostname": []byte(hostname + "\n"), "resolv.conf": resolv}, nil
}
