//go:build linux

// Package registry speaks with registries: manifests and configs come in whole and checked, layers as streams that go
// on where they broke off, images go out.
//
//	img, err := registry.Options{}.Find(ctx, ref, platform)
//	stream, err := img.Open(ctx, 0, folder) // its lowest layer; the folder keeps what has come, for another try
//
// Nothing that a registry says is taken on trust. What is named by a digest is compared with it: manifest and config
// here, layers by whoever reads their streams to the end (package layers). Sizes are limited before anything is read.
//
// See https://github.com/opencontainers/distribution-spec/blob/main/spec.md.
package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
)

// What can be wrong with a registry, or with what it sends.
var (
	ErrPlainHTTP = errors.New("the registry speaks plain http, which anybody on the way can read and change")
	ErrManifest  = errors.New("not the manifest of an image that can run")
	ErrOther     = errors.New("something else than an image")
	ErrBroken    = errors.New("the download broke off")

	ErrCertificate = errors.New("the certificate of the registry is not one that this machine trusts")
	ErrDenied      = errors.New("the registry does not allow it")
	ErrPassword    = errors.New("the registry does not take this user and password")
)

// Options are the flags of the commands that speak with registries.
type Options struct {
	Insecure     bool     // plain http, and certificates that nobody vouches for
	AllowPrivate bool     // a registry elsewhere may lead into private networks
	CertDir      string   // *.crt to trust, and *.cert with *.key to show; "": /etc/docker/certs.d/{registry}
	Mirrors      []string // registries that are asked first: "host" for images of docker.io, "registry=host" for others
}

// backoff is how long it waits between tries: 0.2, 0.6, 1.8 and 5.4 seconds.
var backoff = transport.Backoff{Duration: 200 * time.Millisecond, Factor: 3, Jitter: 0.1, Steps: 5}

// maxStall is how long a registry may send nothing in the middle of a layer.
var maxStall = 30 * time.Second

// retried are the statuses that may be another one in a moment.
var retried = []int{
	http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
	http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
}

// transport is what all requests to one registry go through, up to credentials. It may take wait for the head of an answer.
func (o Options) transport(host string, wait time.Duration) (http.RoundTripper, error) {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.MaxIdleConnsPerHost = 8
	base.ResponseHeaderTimeout = wait
	var err error
	if base.TLSClientConfig, err = o.tls(host); err != nil {
		return nil, err
	}
	return transport.NewUserAgent(o.newBorder(base, host), "gocker"), nil
}

// tls trusts the machine's authorities and those in the folders that docker and podman have for it: see
// https://docs.docker.com/engine/security/certificates/.
func (o Options) tls(host string) (*tls.Config, error) {
	config := &tls.Config{InsecureSkipVerify: o.Insecure}
	folders := []string{o.CertDir}
	if o.CertDir == "" {
		folders = []string{"/etc/docker/certs.d/" + host, "/etc/containers/certs.d/" + host}
	}
	for _, folder := range folders {
		entries, err := os.ReadDir(folder)
		if err != nil && (o.CertDir != "" || !errors.Is(err, os.ErrNotExist)) {
			return nil, fmt.Errorf("read certificates: %w", err)
		}
		for _, e := range entries {
			file := filepath.Join(folder, e.Name())
			switch filepath.Ext(file) {
			case ".crt":
				if config.RootCAs == nil {
					if config.RootCAs, err = x509.SystemCertPool(); err != nil {
						return nil, fmt.Errorf("read this machine's certificates: %w", err)
					}
				}
				pem, err := os.ReadFile(file)
				if err != nil {
					return nil, err
				}
				if !config.RootCAs.AppendCertsFromPEM(pem) {
					return nil, fmt.Errorf("read certificate %q: there is none in it", file)
				}
			case ".cert":
				pair, err := tls.LoadX509KeyPair(file, strings.TrimSuffix(file, ".cert")+".key")
				if err != nil {
					return nil, fmt.Errorf("read certificate %q: %w", file, err)
				}
				config.Certificates = append(config.Certificates, pair)
			}
		}
	}
	return config, nil
}

// errElsewhere says that a registry leads to where it has no business.
var errElsewhere = errors.New("the registry leads elsewhere")

func notForEver(_ *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("it redirects without end")
	}
	return nil
}

// isPassing tells whether an error may be gone in a moment.
func isPassing(err error) bool {
	var status *transport.Error
	var network net.Error
	if errors.As(err, &status) {
		return status.Temporary()
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, errElsewhere) {
		return false
	}
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// A repository is one of a registry, or of its mirror.
type repository struct {
	ref    name.Reference
	client *http.Client // tries again what may be gone in a moment
	once   *http.Client // for layers: a download has its own way to go on
}

// candidates are the places to ask for an image: the mirrors, then its own registry.
func (o Options) candidates(ref pull.Reference) ([]repository, error) {
	own, err := name.ParseReference(ref.Full())
	if err != nil {
		return nil, err
	}
	var all []name.Reference
	for _, mirror := range o.Mirrors {
		registry, host, ok := strings.Cut(mirror, "=")
		if !ok {
			registry, host = "docker.io", mirror
		}
		if registry == "docker.io" {
			registry = name.DefaultRegistry
		}
		if registry != ref.Registry() {
			continue
		}
		separator := ":"
		if _, ok := own.(name.Digest); ok {
			separator = "@"
		}
		there, err := name.ParseReference(host + "/" + own.Context().RepositoryStr() + separator + own.Identifier())
		if err != nil {
			return nil, advice.Add(fmt.Errorf("mirror %q: %w", mirror, err), "a mirror is a host, or REGISTRY=HOST")
		}
		all = append(all, there)
	}
	var repositories []repository
	for _, ref := range append(all, own) {
		r, err := o.repository(ref)
		if err != nil {
			return nil, err
		}
		repositories = append(repositories, r)
	}
	return repositories, nil
}

func (o Options) repository(ref name.Reference) (repository, error) {
	once, err := o.caller(ref.Context().RegistryStr(), maxStall, keptFor(ref.Context()), ref.Scope(transport.PullScope))
	if err != nil {
		return repository{}, err
	}
	return repository{
		ref:    ref,
		client: &http.Client{Transport: once.retrying(), CheckRedirect: notForEver},
		once:   &http.Client{Transport: once, CheckRedirect: notForEver},
	}, nil
}

// keptFor finds what docker keeps of credentials for a repository.
func keptFor(repository name.Repository) func(context.Context) (authn.Authenticator, error) {
	return func(ctx context.Context) (authn.Authenticator, error) {
		return authn.Resolve(ctx, authn.DefaultKeychain, repository)
	}
}

// url names something of the repository: "manifests" or "blobs".
func (r repository) url(kind, id string) string {
	return fmt.Sprintf("https://%s/v2/%s/%s/%s", r.ref.Context().RegistryStr(), r.ref.Context().RepositoryStr(), kind, id)
}

// Login asks a registry whether it knows these credentials: ErrPassword says that it does not.
func (o Options) Login(ctx context.Context, host string, credentials authn.AuthConfig) error {
	what := fmt.Sprintf("log in to %q", host)
	registry, err := name.NewRegistry(host)
	if err != nil {
		return advice.Add(fmt.Errorf("%s: %w", what, err), "a registry is a host, and a port where it is not 443: registry.example.com:5000")
	}
	c, err := o.caller(registry.RegistryStr(), maxStall, func(context.Context) (authn.Authenticator, error) { return authn.FromConfig(credentials), nil })
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+registry.RegistryStr()+"/v2/", nil)
	if err != nil {
		return err
	}
	response, err := (&http.Client{Transport: c.retrying(), CheckRedirect: notForEver}).Do(request)
	if err == nil {
		defer response.Body.Close()
		err = check(response, http.StatusOK)
	}
	if err != nil {
		return explain(ctx, what, host, err)
	}
	return nil
}
