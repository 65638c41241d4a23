//go:build linux

package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/testenv"
)

func TestPrivateAddresses(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1": true, "127.200.0.1": true, "0.0.0.0": true, "0.1.2.3": true, "10.1.2.3": true, "172.31.0.1": true, "192.168.0.1": true,
		"169.254.169.254": true, "100.100.100.200": true, "224.0.0.1": true, "::": true, "::1": true, "::ffff:127.0.0.1": true, "::ffff:0.0.0.0": true,
		"fe80::1%lo": true, "fd00:ec2::254": true, "fec0::1": true, "ff02::1": true, "64:ff9b::a9fe:a9fe": true, "2002:7f00:1::": true,
		"203.0.113.1": false, "8.8.8.8": false, "172.32.0.1": false, "100.128.0.1": false, "2606:4700::1111": false, "::ffff:8.8.8.8": false, "64:ff9b::808:808": false,
	} {
		if got := isPrivate(netip.MustParseAddr(address)); got != want {
			t.Errorf("isPrivate(%s) = %v", address, got)
		}
	}
}

const inNetwork = "GOCKER_TEST_NETWORK"

// elsewhere runs a test in a network of its own, with env, and tells whether that is where we are. Its lo has public addresses, too:
// 203.0.113.1 is registry.example, and .2 is cdn.example; 10.9.8.7 is inside.example, and 127.0.0.1 loop.example.
func elsewhere(t *testing.T, env ...string) bool {
	t.Helper()
	testenv.NeedRoot(t)
	if _, err := os.Stat("/etc/hosts"); err != nil {
		testenv.Lacks(t, "/etc/hosts")
	}
	if os.Getenv(inNetwork) == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(append(os.Environ(), inNetwork+"=1"), env...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("in a network of its own: %v\n%s", err, out)
		}
		return false
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(socket)
	lo, err := unix.NewIfreq("lo")
	if err == nil {
		lo.SetUint16(unix.IFF_UP | unix.IFF_LOOPBACK)
		err = unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, lo)
	}
	for i, address := range []string{"203.0.113.1", "203.0.113.2", "10.9.8.7"} {
		var alias *unix.Ifreq
		if err == nil {
			alias, err = unix.NewIfreq(fmt.Sprint("lo:", i))
		}
		if err == nil {
			err = errors.Join(alias.SetInet4Addr(netip.MustParseAddr(address).AsSlice()), unix.IoctlIfreq(socket, unix.SIOCSIFADDR, alias))
		}
	}
	hosts := filepath.Join(t.TempDir(), "hosts")
	names := "203.0.113.1 registry.example\n203.0.113.2 cdn.example\n10.9.8.7 inside.example\n127.0.0.1 loop.example localhost\n::1 loop6.example\n"
	if err == nil {
		err = errors.Join(os.WriteFile(hosts, []byte(names), 0o644),
			unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount(hosts, "/etc/hosts", "", unix.MS_BIND, ""))
	}
	if err != nil {
		t.Fatal(err)
	}
	return true
}

// listen serves at an address until the test ends.
func listen(t testing.TB, address string, handler http.Handler) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: handler}}
	server.Start()
	t.Cleanup(server.Close)
}

// A lure is a registry that sends whoever asks it for something to another place.
type lure struct {
	inner http.Handler
	to    atomic.Value // string: "http://HOST:PORT"
	at    atomic.Value // string: what must be in the path of the request
}

func (l *lure) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	to, at := l.to.Load().(string), l.at.Load().(string)
	switch {
	case to == "" || r.Method == http.MethodPut || r.Method == http.MethodPost || r.Method == http.MethodPatch || r.Method == http.MethodHead:
	case at == "token" && r.Header.Get("Authorization") == "":
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+to+`/token",service="all"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	case at != "token" && strings.Contains(r.URL.Path, at):
		http.Redirect(w, r, to+r.URL.Path, http.StatusTemporaryRedirect)
		return
	}
	l.inner.ServeHTTP(w, r)
}

// lay serves a lure at addresses, with an image, and all that it leads to at any address at port 7000, which counts who asks.
func lay(t testing.TB, addresses ...string) (l *lure, asked *atomic.Int32) {
	t.Helper()
	inner := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	l, asked = &lure{inner: inner}, new(atomic.Int32)
	l.to.Store("")
	l.at.Store("")
	for _, address := range addresses {
		listen(t, address, l)
	}
	listen(t, ":7000", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path == "/token" {
			fmt.Fprint(w, `{"token": "t"}`)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	if err := crane.Push(testenv.Image(t, testenv.Tar(t, testenv.File("a", "1"))), addresses[0]+"/image", crane.Insecure); err != nil {
		t.Fatal(err)
	}
	return l, asked
}

// pullAll pulls an image to its last byte.
func pullAll(t testing.TB, o Options, registry string) error {
	t.Helper()
	ref, err := pull.ParseReference(registry + "/image")
	if err != nil {
		t.Fatal(err)
	}
	img, err := o.Find(context.Background(), ref, nil)
	if err != nil {
		return err
	}
	stream, err := img.Open(context.Background(), 0, t.TempDir(), func(int64) {})
	if err != nil {
		return err
	}
	defer stream.Close()
	_, err = io.Copy(io.Discard, stream)
	return err
}

func TestARegistryElsewhereDoesNotLeadIntoAPrivateNetwork(t *testing.T) {
	if !elsewhere(t) {
		return
	}
	l, asked := lay(t, "203.0.113.1:5000")
	for _, registry := range []string{"203.0.113.1:5000", "registry.example:5000"} {
		for _, at := range []string{"/manifests/", "/blobs/", "token"} {
			for _, host := range []string{"localhost", "a.localhost", "127.0.0.1", "127.1", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "10.9.8.7", "inside.example", "loop.example", "loop6.example"} {
				l.to.Store("http://" + host + ":7000")
				l.at.Store(at)
				asked.Store(0)
				err := pullAll(t, Options{Insecure: true}, registry)
				if err == nil || asked.Load() > 0 {
					t.Errorf("%s leads to %s for %s: %v, which was asked %d times", registry, host, at, err, asked.Load())
				}
				if host != "127.1" && !errors.Is(err, errElsewhere) {
					t.Errorf("%s leads to %s for %s: %v, want it to be told", registry, host, at, err)
				}
			}
			for _, host := range []string{"203.0.113.2", "cdn.example"} {
				l.to.Store("http://" + host + ":7000")
				l.at.Store(at)
				asked.Store(0)
				if err := pullAll(t, Options{Insecure: true}, registry); err != nil || asked.Load() == 0 {
					t.Errorf("%s leads to %s for %s: %v, which was asked %d times", registry, host, at, err, asked.Load())
				}
			}
		}
	}
	for _, at := range []string{"/blobs/", "token"} {
		for _, host := range []string{"inside.example", "10.9.8.7", "127.0.0.1"} {
			l.at.Store(at)
			l.to.Store("http://" + host + ":7000")
			if err := pullAll(t, Options{Insecure: true, AllowPrivate: true}, "registry.example:5000"); err != nil {
				t.Errorf("with AllowPrivate, to %s for %s: %v", host, at, err)
			}
		}
	}
}

func TestARegistryOfAPrivateNetworkLeadsToItsNeighbours(t *testing.T) {
	if !elsewhere(t) {
		return
	}
	l, asked := lay(t, "10.9.8.7:5000", "127.0.0.1:5000")
	for _, registry := range []string{"10.9.8.7:5000", "inside.example:5000", "127.0.0.1:5000", "loop.example:5000"} {
		for _, at := range []string{"/manifests/", "/blobs/", "token"} {
			for _, host := range []string{"127.0.0.1", "loop.example", "10.9.8.7", "inside.example", "cdn.example"} {
				l.to.Store("http://" + host + ":7000")
				l.at.Store(at)
				asked.Store(0)
				if err := pullAll(t, Options{Insecure: true}, registry); err != nil || asked.Load() == 0 {
					t.Errorf("%s leads to %s for %s: %v, which was asked %d times", registry, host, at, err, asked.Load())
				}
			}
		}
	}
}

func TestAProxyMayBeInAPrivateNetwork(t *testing.T) {
	if !elsewhere(t, "http_proxy=http://inside.example:3128") {
		return
	}
	var passed atomic.Int32
	listen(t, "10.9.8.7:3128", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if passed.Add(1); r.Method != http.MethodConnect {
			(&httputil.ReverseProxy{Transport: &http.Transport{}, Rewrite: func(*httputil.ProxyRequest) {}}).ServeHTTP(w, r)
			return
		}
		there, err := net.Dial("tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer there.Close()
		w.WriteHeader(http.StatusOK)
		here, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer here.Close()
		go io.Copy(there, here)
		io.Copy(here, there)
	}))
	l, asked := lay(t, "203.0.113.1:5000")
	passed.Store(0)
	l.at.Store("/blobs/")
	l.to.Store("http://cdn.example:7000")
	if err := pullAll(t, Options{Insecure: true}, "registry.example:5000"); err != nil || passed.Load() < 3 || asked.Load() == 0 {
		t.Errorf("through a proxy: %v; %d requests passed it", err, passed.Load())
	}
	asked.Store(0)
	for _, host := range []string{"10.9.8.7", "[::ffff:10.9.8.7]", "localhost", "127.0.0.1"} { // where names lead is the proxy's matter
		l.to.Store("http://" + host + ":7000")
		if err := pullAll(t, Options{Insecure: true}, "registry.example:5000"); !errors.Is(err, errElsewhere) || asked.Load() > 0 {
			t.Errorf("through a proxy to %s: %v", host, err)
		}
	}
}
