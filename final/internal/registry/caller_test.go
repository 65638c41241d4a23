//go:build linux

package registry

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/testenv"
)

func TestChallengesAreReadInEveryForm(t *testing.T) {
	for _, tt := range []struct {
		what  string
		lines []string
		want  string
	}{
		{"one", []string{`Bearer realm="https://a/token",service="s",scope="repository:x:pull,push"`}, `[{bearer map[realm:https://a/token scope:repository:x:pull,push service:s]}]`},
		{"two headers", []string{`Basic realm="b"`, `Bearer realm="c"`}, `[{bearer map[realm:c]} {basic map[realm:b]}]`},
		{"two in one header", []string{`Basic realm="b, c", Bearer realm="d", service=e`}, `[{bearer map[realm:d service:e]} {basic map[realm:b, c]}]`},
		{"others before", []string{`Negotiate`, `Digest realm="x", BASIC realm="b"`}, `[{negotiate map[]} {digest map[realm:x]} {basic map[realm:b]}]`},
		{"names in capitals, blanks, escapes", []string{`bearer Realm = "a\"b" , Service=""`}, `[{bearer map[realm:a"b service:]}]`},
		{"nothing", nil, `[]`},
	} {
		if got := fmt.Sprint(challenges(http.Header{"Www-Authenticate": tt.lines})); got != tt.want {
			t.Errorf("%s: challenges(%q) = %s, want %s", tt.what, tt.lines, got, tt.want)
		}
	}
}

// keep makes a config.json, as docker keeps credentials, for a registry.
func keep(t testing.TB, host, user, password string) {
	t.Helper()
	dir := t.TempDir()
	auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	if err := os.WriteFile(filepath.Join(dir, "config.json"), fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, host, auth), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", dir)
}

// A guard stands before a registry. It lets clients in that have a token, or a password.
type guard struct {
	inner      http.Handler
	at         func(r *http.Request) bool // which requests it guards
	challenges []string                   // REALM is the token server's address
	realm      string
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	byPassword := user == "guest" && password == "secret" && strings.Contains(fmt.Sprint(g.challenges), "Basic")
	if !g.at(r) || byPassword || r.Header.Get("Authorization") == "Bearer t" {
		g.inner.ServeHTTP(w, r)
		return
	}
	for _, c := range g.challenges {
		w.Header().Add("WWW-Authenticate", strings.ReplaceAll(c, "REALM", g.realm))
	}
	w.WriteHeader(http.StatusUnauthorized)
	fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":[{"Type":"repository","Name":"x","Action":"pull"}]}]}`)
}

// tokens gives a token to guest.
func tokens(w http.ResponseWriter, r *http.Request) {
	if user, password, _ := r.BasicAuth(); user != "guest" || password != "secret" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	fmt.Fprint(w, `{"token": "t"}`)
}

// everything pushes an image to a registry, logs in and pulls, and says what came of each.
func everything(t testing.TB, o Options, host string) (pushed, loggedIn, pulled error) {
	t.Helper()
	ref, err := pull.ParseReference(host + "/image")
	if err != nil {
		t.Fatal(err)
	}
	pushed = o.Push(t.Context(), ref, testenv.Image(t, testenv.Tar(t, testenv.File("a", "1"))))
	loggedIn = o.Login(t.Context(), host, authn.AuthConfig{Username: "guest", Password: "secret"})
	return pushed, loggedIn, pullAll(t, o, host)
}

func TestEveryWayInIsTaken(t *testing.T) {
	all := func(*http.Request) bool { return true }
	under := func(part string) func(*http.Request) bool {
		return func(r *http.Request) bool { return strings.Contains(r.URL.Path, part) }
	}
	const bearer, basic = `Bearer realm="REALM",service="s"`, `Basic realm="r"`
	for _, tt := range []struct {
		what       string
		at         func(*http.Request) bool
		challenges []string
		server     http.HandlerFunc
		ok         bool
	}{
		{"a password", all, []string{basic}, nil, true},
		{"a token", all, []string{bearer}, tokens, true},
		{"two headers, the password first", all, []string{basic, bearer}, tokens, true},
		{"two headers, the token first", all, []string{bearer, basic}, tokens, true},
		{"both in one header", all, []string{basic + ", " + bearer}, tokens, true},
		{"a token that is not to be had, or a password", all, []string{bearer, basic}, http.NotFound, true},
		{"one that nobody knows, and a password", all, []string{"Negotiate", basic}, nil, true},
		{"only at the repository", under("/image/"), []string{bearer}, tokens, true},
		{"only at blobs", under("/blobs/"), []string{bearer}, tokens, true},
		{"a token that is not to be had", all, []string{bearer}, http.NotFound, false},
		{"one that nobody knows", all, []string{"Negotiate"}, nil, false},
	} {
		t.Run(tt.what, func(t *testing.T) {
			g := &guard{inner: ggcr.New(ggcr.Logger(log.New(testWriter{t}, "", 0))), at: tt.at, challenges: tt.challenges}
			if tt.server != nil { // at another port, as those on the same machine are
				server := httptest.NewServer(tt.server)
				defer server.Close()
				g.realm = server.URL + "/token"
			}
			host := testenv.Registry(t, func(http.Handler) http.Handler { return g })
			keep(t, host, "guest", "secret")
			pushed, loggedIn, pulled := everything(t, Options{}, host)
			if (pushed == nil) != tt.ok || (pulled == nil) != tt.ok || (loggedIn == nil) != tt.ok {
				t.Errorf("push: %v\nlogin: %v\npull: %v\nwant all well: %v", pushed, loggedIn, pulled, tt.ok)
			}
		})
	}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) { return len(p), nil }

func TestATokenIsAskedForWhatIsToBeDone(t *testing.T) {
	var asked []url.Values
	g := &guard{inner: ggcr.New(ggcr.Logger(log.New(testWriter{t}, "", 0))), at: func(*http.Request) bool { return true }, challenges: []string{`Bearer realm="REALM",service="s",scope="repository:other:pull"`}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Query())
		json.NewEncoder(w).Encode(map[string]string{"access_token": "t"})
	}))
	defer server.Close()
	g.realm = server.URL + "/token?more=1"
	host := testenv.Registry(t, func(http.Handler) http.Handler { return g })
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	if pushed, loggedIn, pulled := everything(t, Options{}, host); pushed != nil || loggedIn != nil || pulled != nil {
		t.Fatalf("push: %v, login: %v, pull: %v", pushed, loggedIn, pulled)
	}
	for i, want := range [][]string{{"repository:other:pull", "repository:image:push,pull"}, {"repository:other:pull"}, {"repository:other:pull", "repository:image:pull"}} {
		if i >= len(asked) || !slices.Equal(asked[i]["scope"], want) || asked[i].Get("service") != "s" || asked[i].Get("more") != "1" {
			t.Errorf("the token server was asked %v, want the scopes %q at place %d", asked, want, i)
		}
	}
	if len(asked) != 3 {
		t.Errorf("the token server was asked %d times, want once for each of push, login and pull", len(asked))
	}
}

// A halfTLS listener does something else with clients that greet in TLS, and leaves others to a server.
type halfTLS struct {
	net.Listener
	greeted func(conn net.Conn)
}

func (l halfTLS) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &halfConn{conn, bufio.NewReader(conn), l.greeted}, nil
}

type halfConn struct {
	net.Conn
	read    *bufio.Reader
	greeted func(conn net.Conn)
}

func (c *halfConn) Read(p []byte) (int, error) {
	if c.greeted != nil {
		if first, err := c.read.Peek(1); err == nil && first[0] == 0x16 {
			c.greeted(c.Conn)
			c.Conn.Close()
		}
		c.greeted = nil
	}
	return c.read.Read(p)
}

// listenHalf serves a registry in plain http.
func listenHalf(t testing.TB, address string, greeted func(conn net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: ggcr.New(ggcr.Logger(log.New(testWriter{t}, "", 0)))}
	go server.Serve(halfTLS{l, greeted})
	t.Cleanup(func() { server.Close() })
	return l.Addr().String()
}

var greetings = map[string]func(conn net.Conn){
	"a reset": func(conn net.Conn) { conn.(*net.TCPConn).SetLinger(0) },
	"an end":  func(net.Conn) {},
	"a page without a status line": func(conn net.Conn) {
		fmt.Fprint(conn, "<html><body>speak http</body></html>")
		time.Sleep(10 * time.Millisecond)
	},
	"an answer in http": func(conn net.Conn) {
		fmt.Fprint(conn, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
		time.Sleep(10 * time.Millisecond)
	},
}

func TestARegistryThatDoesNotSpeakTLSGetsPlainHTTPIfItMay(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	for what, greeted := range greetings {
		host := listenHalf(t, "127.0.0.1:0", greeted)
		if pushed, loggedIn, pulled := everything(t, Options{}, host); pushed != nil || loggedIn != nil || pulled != nil {
			t.Errorf("TLS is answered by %s:\npush: %v\nlogin: %v\npull: %v", what, pushed, loggedIn, pulled)
		}
	}
}

func TestPlainHTTPElsewhereIsForTheUserToAllow(t *testing.T) {
	if !elsewhere(t) {
		return
	}
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	port := 5100
	for what, greeted := range greetings {
		port++
		host := listenHalf(t, fmt.Sprint("203.0.113.1:", port), greeted)
		if pushed, loggedIn, pulled := everything(t, Options{Insecure: true}, host); pushed != nil || loggedIn != nil || pulled != nil {
			t.Errorf("TLS is answered by %s:\npush: %v\nlogin: %v\npull: %v", what, pushed, loggedIn, pulled)
		}
		pushed, loggedIn, pulled := everything(t, Options{}, host)
		for _, err := range []error{pushed, loggedIn, pulled} {
			if err == nil || errors.Is(err, ErrPlainHTTP) != (what == "an answer in http") {
				t.Errorf("TLS is answered by %s, and plain http is not allowed: %v", what, err)
			}
		}
	}
	// Without a port that is 443, and where nobody listens, 80.
	for _, address := range []string{"203.0.113.1", "10.9.8.7", "127.0.0.1"} {
		listenHalf(t, address+":80", greetings["an end"])
		if pushed, loggedIn, pulled := everything(t, Options{Insecure: true}, address); pushed != nil || loggedIn != nil || pulled != nil {
			t.Errorf("at port 80 of %s:\npush: %v\nlogin: %v\npull: %v", address, pushed, loggedIn, pulled)
		}
		if pushed, loggedIn, pulled := everything(t, Options{}, address); address != "127.0.0.1" && (pushed == nil || loggedIn == nil || pulled == nil) {
			t.Errorf("at port 80 of %s, not allowed:\npush: %v\nlogin: %v\npull: %v", address, pushed, loggedIn, pulled)
		}
	}
}

// Credentials are not for a server that answers in plain http in the place of a registry that speaks TLS.
func TestWhatSpeaksTLSIsNotSpokenToInPlainHTTP(t *testing.T) {
	plain := 0
	count := func(http.Handler) http.Handler {
		return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { plain++ })
	}
	inner := httptest.NewUnstartedServer(count(nil))
	inner.Config.ErrorLog = log.New(testWriter{t}, "", 0)
	inner.StartTLS()
	defer inner.Close()
	host := strings.TrimPrefix(inner.URL, "https://")
	pushed, loggedIn, pulled := everything(t, Options{}, host)
	for _, err := range []error{pushed, loggedIn, pulled} {
		if says := advice.Of(err); !errors.Is(err, ErrCertificate) || !strings.Contains(says, "--cert-dir") || !strings.Contains(says, "/etc/docker/certs.d/"+host) || !strings.Contains(says, "--insecure") {
			t.Errorf("of a certificate that nobody vouches for: %v, advice %q", err, says)
		}
		if errors.Is(err, pull.ErrUnreachable) || strings.Contains(fmt.Sprint(err), "in plain http") {
			t.Errorf("of a certificate that nobody vouches for: %v", err)
		}
	}
	if plain > 0 {
		t.Errorf("it was asked %d times all the same", plain)
	}
}

func TestARegistryThatWantsACertificateSaysSo(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}
	server.Config.ErrorLog = log.New(testWriter{t}, "", 0)
	server.StartTLS()
	defer server.Close()
	err := pullAll(t, Options{Insecure: true}, strings.TrimPrefix(server.URL, "https://"))
	if says := advice.Of(err); errors.Is(err, pull.ErrUnreachable) || !strings.Contains(says, "--cert-dir") {
		t.Errorf("pull: %v, advice %q", err, says)
	}
}

func TestErrorsSayWhatIsWrongAndWhatHelps(t *testing.T) {
	basic := testenv.Registry(t, func(h http.Handler) http.Handler {
		return &guard{inner: h, at: func(*http.Request) bool { return true }, challenges: []string{`Basic realm="r"`}}
	})
	server := httptest.NewServer(http.HandlerFunc(tokens))
	defer server.Close()
	byToken := testenv.Registry(t, func(h http.Handler) http.Handler {
		return &guard{inner: h, at: func(*http.Request) bool { return true }, challenges: []string{`Bearer realm="REALM"`}, realm: server.URL}
	})
	noRealm := testenv.Registry(t, func(h http.Handler) http.Handler {
		return &guard{inner: h, at: func(*http.Request) bool { return true }, challenges: []string{`Bearer service="s"`}}
	})
	for _, host := range []string{basic, byToken} {
		for what, tt := range map[string]struct {
			config string
			want   error
		}{
			"a wrong password":     {`{"auths":{"HOST":{"auth":"Z3Vlc3Q6d3Jvbmc="}}}`, ErrPassword},
			"no password":          {`{}`, pull.ErrUnauthorized},
			"a broken config.json": {`{"auths":`, errCredentials},
		} {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(strings.ReplaceAll(tt.config, "HOST", host)), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv("DOCKER_CONFIG", dir)
			pushed, _, pulled := everything(t, Options{}, host)
			for i, err := range []error{pushed, pulled} {
				want := tt.want
				if i == 0 && want == pull.ErrUnauthorized {
					want = ErrDenied
				}
				if !errors.Is(err, want) || !strings.Contains(advice.Of(err), "gocker login "+host) {
					t.Errorf("%s: %v, advice %q; want %v, and gocker login", what, err, advice.Of(err), want)
				}
				for _, wrong := range []string{"map[", "cannot reach"} {
					if strings.Contains(fmt.Sprint(err), wrong) {
						t.Errorf("%s: %v", what, err)
					}
				}
			}
		}
		err := Options{}.Login(t.Context(), host, authn.AuthConfig{Username: "guest", Password: "wrong"})
		if !errors.Is(err, ErrPassword) || strings.Contains(err.Error(), "no such image") {
			t.Errorf("log in with a wrong password: %v", err)
		}
	}
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	if err := pullAll(t, Options{}, noRealm); err == nil || strings.Contains(err.Error(), "map[") || !strings.Contains(err.Error(), "no server for tokens") {
		t.Errorf("without a realm: %v", err)
	}
}

func TestALoginEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	host := testenv.Registry(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	})
	if err := (Options{}).Login(ctx, host, authn.AuthConfig{}); !errors.Is(err, context.Canceled) {
		t.Errorf("Login = %v, want that it was stopped", err)
	}
}
