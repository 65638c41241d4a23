//go:build linux

package registry

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"gocker/step01-pull/pull"
)

// A caller sends all requests to one registry: for pull, push and login. It finds out whether the registry speaks TLS. It
// gives credentials only to a registry that asks for them, so most pulls need no question first.
type caller struct {
	inner       http.RoundTripper // across the border
	host        string            // with its port, as the user wrote it
	insecure    bool
	scopes      []string // what a token is asked for
	credentials func(ctx context.Context) (authn.Authenticator, error)

	mu            sync.Mutex
	scheme        string // "" until the registry has answered
	authorization string // what the registry wants to read in every request
}

// caller makes one for a registry. The head of an answer may take wait.
func (o Options) caller(host string, wait time.Duration, credentials func(context.Context) (authn.Authenticator, error), scopes ...string) (*caller, error) {
	inner, err := o.transport(host, wait)
	return &caller{inner: inner, host: host, insecure: o.Insecure, scopes: scopes, credentials: credentials}, err
}

// retrying is the caller, which tries again what may be gone in a moment.
func (c *caller) retrying() http.RoundTripper {
	return transport.NewRetry(c, transport.WithRetryBackoff(backoff), transport.WithRetryPredicate(isPassing), transport.WithRetryStatusCodes(retried...))
}

// RoundTrip sends a request, and sends it again with what the registry asks for. Of several ways in a token is the first,
// and the password is the next.
func (c *caller) RoundTrip(r *http.Request) (*http.Response, error) {
	if withoutPort(r.URL.Host) != withoutPort(c.host) {
		return c.inner.RoundTrip(r) // a redirect: it has its own credentials in its address
	}
	c.mu.Lock()
	sent := c.authorization
	c.mu.Unlock()
	response, err := c.send(r, sent)
	if err != nil || response.StatusCode != http.StatusUnauthorized {
		return response, err
	}
	var failed error
	for _, asked := range challenges(response.Header) {
		authorization, err := c.answer(r.Context(), asked, sent)
		if err != nil {
			failed = cmp.Or(failed, err)
			continue
		}
		again, ok := rewound(r)
		if authorization == "" || !ok {
			continue
		}
		response.Body.Close()
		sent = authorization
		if response, err = c.send(again, sent); err != nil || response.StatusCode != http.StatusUnauthorized {
			return response, err
		}
	}
	if failed == nil && strings.HasPrefix(sent, "Basic ") {
		failed = fmt.Errorf("%w: %w", ErrPassword, check(response))
	}
	if failed != nil {
		response.Body.Close()
		return nil, failed
	}
	return response, nil
}

// withoutPort takes off a port that goes without saying.
func withoutPort(host string) string {
	return strings.TrimSuffix(strings.TrimSuffix(host, ":443"), ":80")
}

// rewound is a request once more, if its body can be read twice.
func rewound(r *http.Request) (*http.Request, bool) {
	again := r.Clone(r.Context())
	if r.Body == nil || r.Body == http.NoBody {
		return again, true
	}
	if r.GetBody == nil {
		return nil, false
	}
	var err error
	again.Body, err = r.GetBody()
	return again, err == nil
}

// send sends a request over TLS. On this machine, or if the user wants it, a registry that does not speak TLS gets it
// in plain http. The first answer settles that.
func (c *caller) send(r *http.Request, authorization string) (*http.Response, error) {
	c.mu.Lock()
	scheme := c.scheme
	c.mu.Unlock()
	if scheme != "" {
		return c.sendBy(scheme, r, authorization)
	}
	// A handshake is over before what is sent over it can fail.
	var mu sync.Mutex
	spoken, connected := false, false
	traced := r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) {
			mu.Lock()
			defer mu.Unlock()
			connected, spoken = true, spoken || speaksTLS(err)
		},
	}))
	response, err := c.sendBy("https", traced, authorization)
	if err == nil {
		c.settle("https")
		return response, nil
	}
	mu.Lock()
	defer mu.Unlock()
	host := r.URL.Hostname()
	again, ok := rewound(r)
	switch {
	case spoken || !ok || r.Context().Err() != nil || errors.Is(err, errElsewhere) || !connected && r.URL.Port() != "":
		return nil, err
	case !c.insecure && !isLoopback(host):
		var record tls.RecordHeaderError
		if errors.As(err, &record) && string(record.RecordHeader[:]) == "HTTP/" {
			return nil, plainHTTP(r.URL.Host)
		}
		return nil, err
	}
	response, plainErr := c.sendBy("http", again, authorization)
	if plainErr != nil {
		return nil, fmt.Errorf("%w; in plain http: %w", err, plainErr)
	}
	if response.StatusCode == http.StatusBadRequest && !strings.HasPrefix(response.Header.Get("Content-Type"), "application/json") {
		response.Body.Close() // what speaks TLS says so of plain http
		return nil, err
	}
	c.settle("http")
	return response, nil
}

// speaksTLS tells from the end of a handshake whether the other side speaks TLS, although the two may not agree.
func speaksTLS(err error) bool {
	var certificate *tls.CertificateVerificationError
	return err == nil || errors.As(err, &certificate) || isAlert(err)
}

// isAlert tells whether the other side has refused us in TLS.
func isAlert(err error) bool {
	var alert *net.OpError
	return errors.As(err, &alert) && alert.Op == "remote error"
}

func (c *caller) settle(scheme string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.scheme = scheme
}

func (c *caller) sendBy(scheme string, r *http.Request, authorization string) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme = scheme
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	return c.inner.RoundTrip(r)
}

// errCredentials says that what docker keeps of credentials cannot be read.
var errCredentials = errors.New("read the credentials")

// answer finds what a challenge asks for; "" is nothing that we have. sent is what did not do.
func (c *caller) answer(ctx context.Context, asked challenge, sent string) (authorization string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.authorization != sent {
		return c.authorization, nil // another request was faster
	}
	credentials, err := c.credentials(ctx)
	var known *authn.AuthConfig
	if err == nil {
		known, err = authn.Authorization(ctx, credentials)
	}
	if err != nil {
		return "", fmt.Errorf("%w for %s: %w", errCredentials, c.host, err)
	}
	switch {
	case asked.scheme == "basic" && known.Username != "" && known.Password != "":
		authorization = "Basic " + base64.StdEncoding.EncodeToString([]byte(known.Username+":"+known.Password))
	case asked.scheme == "basic" && known.Auth != "":
		authorization = "Basic " + known.Auth
	case asked.scheme == "bearer" && known.RegistryToken != "":
		authorization = "Bearer " + known.RegistryToken
	case asked.scheme == "bearer":
		token, err := c.token(ctx, asked, credentials)
		if err != nil {
			return "", err
		}
		authorization = "Bearer " + token
	default:
		return "", nil
	}
	c.authorization = authorization
	return authorization, nil
}

// token asks the server that a challenge names for a token. Where that may be is the border's to say: the library has a
// border of its own, which knows nothing of registries in private networks, and lets through what is said to be the
// registry's own host.
func (c *caller) token(ctx context.Context, asked challenge, credentials authn.Authenticator) (string, error) {
	realm, err := url.Parse(asked.params["realm"])
	if err != nil || realm.Host == "" {
		return "", fmt.Errorf("the registry names no server for tokens, but %q", asked.params["realm"])
	}
	server, err := name.NewRegistry(realm.Host)
	if err != nil {
		return "", err
	}
	scopes := c.scopes
	if asked.params["scope"] != "" { // first, as some servers look at no other
		scopes = append([]string{asked.params["scope"]}, scopes...)
	}
	token, err := transport.Exchange(ctx, server, credentials, c.inner, scopes, &transport.Challenge{Scheme: "bearer", Parameters: asked.params, Insecure: true})
	var status *transport.Error
	if errors.As(pull.Plain(err), &status) && status.StatusCode == http.StatusUnauthorized && credentials != authn.Anonymous {
		err = fmt.Errorf("%w: %w", ErrPassword, err)
	}
	if err != nil {
		return "", fmt.Errorf("ask %s for a token: %w", realm.Host, err)
	}
	if token.AccessToken != "" {
		return token.AccessToken, nil
	}
	return token.Token, nil
}
