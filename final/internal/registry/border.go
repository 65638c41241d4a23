//go:build linux

package registry

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"time"

	"gocker/step01-pull/shared/advice"
)

// A border keeps a registry from making this machine ask its neighbours, or a cloud's metadata service. A registry leads
// elsewhere by a redirect, by the address of a layer, and by that of its token server. Where a name leads only the address
// says that is dialled. It may be one of a private network if the registry's own is, or if the user allows it.
type border struct {
	http.RoundTripper
	host    string // the registry's, without its port
	options Options

	mu      sync.Mutex
	known   bool // where the registry is
	private bool
	proxies map[string]bool // addresses that HTTPS_PROXY and its like name; what is behind them they know
}

// newBorder has all requests of base to a registry cross it.
func (o Options) newBorder(base *http.Transport, registry string) *border {
	host := (&url.URL{Host: registry}).Hostname()
	private := isPrivateName(host)
	b := &border{RoundTripper: base, host: host, options: o, known: private, private: private, proxies: map[string]bool{}}
	base.DialContext = b.dial
	base.Proxy = b.proxy
	return b
}

// RoundTrip refuses what the address alone says, also where a proxy would dial it. It lets no plain http out of this
// machine.
func (b *border) RoundTrip(r *http.Request) (*http.Response, error) {
	host := r.URL.Hostname()
	switch {
	case r.URL.Scheme != "https" && r.URL.Scheme != "http":
		return nil, fmt.Errorf("%w: to %q", errElsewhere, r.URL)
	case host != b.host && !b.isOpen() && isPrivateName(host):
		return nil, refuse(r.URL.Host)
	case r.URL.Scheme == "http" && !b.options.Insecure && !isLoopback(host):
		return nil, plainHTTP(r.URL.Host)
	}
	return b.RoundTripper.RoundTrip(r)
}

func plainHTTP(host string) error {
	return advice.Add(fmt.Errorf("%w: %s", ErrPlainHTTP, host), "if you trust the network between here and there: --insecure")
}

func refuse(address string) error {
	return advice.Add(fmt.Errorf("%w: to %s, an address of a private network", errElsewhere, address), "if you expect that: --allow-private")
}

// isOpen tells whether private addresses may be dialled.
func (b *border) isOpen() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.options.AllowPrivate || b.private
}

// dial is net.Dial, and looks at the address after the name was looked up: another look-up may have another answer.
func (b *border) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	open := b.isOpen()
	b.mu.Lock()
	first := host == b.host && !b.known // the user named it, wherever it is
	viaProxy := b.proxies[address]
	b.mu.Unlock()
	dialer := net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second} // as http.DefaultTransport has it
	if !open && !first && !viaProxy {
		dialer.Control = func(_, address string, _ syscall.RawConn) error {
			if at, err := netip.ParseAddrPort(address); err != nil || isPrivate(at.Addr()) {
				return refuse(address)
			}
			return nil
		}
	}
	conn, err := dialer.DialContext(ctx, network, address)
	if err == nil && first && !viaProxy {
		at, err := netip.ParseAddrPort(conn.RemoteAddr().String())
		b.mu.Lock()
		b.known, b.private = true, err == nil && isPrivate(at.Addr())
		b.mu.Unlock()
	}
	return conn, err
}

// proxy is http.ProxyFromEnvironment, and remembers what the user has set there: it may be in a private network.
func (b *border) proxy(r *http.Request) (*url.URL, error) {
	proxy, err := http.ProxyFromEnvironment(r)
	if proxy != nil {
		port := proxy.Port()
		if port == "" {
			port = map[string]string{"https": "443", "socks5": "1080", "socks5h": "1080"}[proxy.Scheme]
		}
		if port == "" {
			port = "80"
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.proxies[net.JoinHostPort(proxy.Hostname(), port)] = true
	}
	return proxy, err
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// isPrivateName tells whether a name says itself that it is of a private network. "localhost" and all below it is this
// machine: RFC 6761, 6.3.
func isPrivateName(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && isPrivate(ip)
}

// privateNets are those that net/netip does not know: of RFC 6890 "this network", which Linux takes for this machine, and what providers
// use inside of their networks.
var privateNets = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("fec0::/10")}

// isPrivate tells whether an address is of this machine or a private network, also where it is one of IPv4 in one of IPv6.
func isPrivate(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	if raw := ip.As16(); ip.Is6() {
		switch {
		case netip.MustParsePrefix("64:ff9b::/96").Contains(ip): // NAT64: RFC 6052
			return isPrivate(netip.AddrFrom4([4]byte(raw[12:])))
		case netip.MustParsePrefix("2002::/16").Contains(ip): // 6to4: RFC 3056
			return isPrivate(netip.AddrFrom4([4]byte(raw[2:6])))
		}
	}
	for _, net := range privateNets {
		if net.Contains(ip) {
			return true
		}
	}
	return ip.IsUnspecified() || ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast() || ip.IsMulticast()
}
