//go:build linux

package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
)

// explain says what went wrong with a push or a login, and what the user can do about it.
func explain(ctx context.Context, what, host string, err error) error {
	if err, ok := explained(ctx, what, host, err); ok {
		return err
	}
	var status *transport.Error
	if ctx.Err() == nil && errors.As(err, &status) && (status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden) {
		return advice.Add(fmt.Errorf("%s: %w: %w", what, ErrDenied, pull.Plain(err)), "log in as a user who may: gocker login %s", host)
	}
	return pull.ExplainRequest(ctx, what, host, err)
}

// explainPull is explain for a pull.
func explainPull(ctx context.Context, ref pull.Reference, err error) error {
	if err, ok := explained(ctx, fmt.Sprintf("pull %q", ref), ref.Registry(), err); ok {
		return err
	}
	return pull.Explain(ctx, ref, err)
}

// explained knows the errors that only this package has, or can give advice on.
func explained(ctx context.Context, what, host string, err error) (error, bool) {
	var certificate *tls.CertificateVerificationError
	switch err = pull.Plain(err); {
	case ctx.Err() != nil:
		return nil, false
	case errors.As(err, &certificate):
		return advice.Add(fmt.Errorf("%s: %w: %w", what, ErrCertificate, err),
			"put the certificate of its authority, as NAME.crt, into /etc/docker/certs.d/%s or into a folder that --cert-dir names; or do not check it: --insecure", host), true
	case isAlert(err):
		return advice.Add(fmt.Errorf("%s: %w", what, err),
			"if it wants to see a certificate: NAME.cert and NAME.key in /etc/docker/certs.d/%s, or in a folder that --cert-dir names", host), true
	case errors.Is(err, errCredentials):
		return advice.Add(fmt.Errorf("%s: %w", what, err), "mend or remove the file that holds them, config.json in ~/.docker or $DOCKER_CONFIG; then: gocker login %s", host), true
	case errors.Is(err, ErrPassword):
		return advice.Add(fmt.Errorf("%s: %w", what, err), "check user and password: gocker login %s", host), true
	case errors.Is(err, errElsewhere) || errors.Is(err, ErrPlainHTTP):
		return fmt.Errorf("%s: %w", what, err), true
	}
	return nil, false
}

// check is the library's, without what only programs can read.
func check(response *http.Response, codes ...int) error {
	return pull.Plain(transport.CheckError(response, codes...))
}
