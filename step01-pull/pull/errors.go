package pull

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/go-containerregistry/pkg/crane"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"gocker/step01-pull/shared/advice"
)

// These errors say what is wrong with a name that is well formed.
var (
	ErrNotFound     = errors.New("no such image")
	ErrUnauthorized = errors.New("the registry wants credentials, or has no such image")
	ErrUnreachable  = errors.New("cannot reach the registry")
	ErrPlatform     = errors.New("the image is not made for this platform")
)

// Explain turns what the library says of a pull into one of this package's errors.
func Explain(ctx context.Context, ref Reference, err error) error {
	what := fmt.Sprintf("pull %q", ref)
	var status *transport.Error
	switch {
	case ctx.Err() == nil && strings.HasPrefix(err.Error(), "no child with platform"): // the library has no value for it
		return noPlatform(ctx, ref, fmt.Errorf("%s: %w: %w", what, ErrPlatform, err))
	case ctx.Err() == nil && errors.As(err, &status) && status.StatusCode == http.StatusNotFound:
		return advice.Add(fmt.Errorf("%s: %w at %s: %w", what, ErrNotFound, ref.Registry(), Plain(err)),
			"check the spelling of name and tag")
	}
	if err = ExplainRequest(ctx, what, ref.Registry(), err); errors.Is(err, ErrUnreachable) {
		return advice.Add(err, "without a network there is the image %q", Sample)
	}
	return err
}

// ExplainRequest turns what the library says of any request to a registry into one of this package's errors.
func ExplainRequest(ctx context.Context, what, registry string, err error) error {
	var status *transport.Error
	switch err = Plain(err); {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	case errors.As(err, &status) && (status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden):
		return advice.Add(fmt.Errorf("%s: %w: %w", what, ErrUnauthorized, err),
			"check the spelling, or log in: gocker login %s", registry)
	case isNetwork(err):
		return advice.Add(fmt.Errorf("%s: %w %s: %w", what, ErrUnreachable, registry, err), "check its name, and this machine's network")
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Plain takes what only programs can read out of a registry's answer.
func Plain(err error) error {
	var status *transport.Error
	if errors.As(err, &status) {
		for i := range status.Errors {
			status.Errors[i].Detail = nil
		}
	}
	return err
}

// isNetwork tells whether it was the network that failed. To package http every error of a request is a network's.
func isNetwork(err error) bool {
	var request *url.Error
	if errors.As(err, &request) {
		err = request.Err
	}
	var network net.Error
	return errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// noPlatform adds to an error for which platforms the index has images, where the registry says it once more.
func noPlatform(ctx context.Context, ref Reference, err error) error {
	var index v1.IndexManifest
	if raw, err := crane.Manifest(ref.from(), crane.WithContext(ctx)); err == nil {
		_ = json.Unmarshal(raw, &index)
	}
	var offered []string
	for _, m := range index.Manifests {
		if m.Platform != nil && m.Platform.OS != "unknown" {
			offered = append(offered, m.Platform.String())
		}
	}
	if len(offered) == 0 {
		return advice.Add(err, "it has no image for any platform")
	}
	return advice.Add(err, "--platform is one of: %s", strings.Join(offered, ", "))
}

// otherPlatform is the error of an image that was not made for the platform that is wanted.
func otherPlatform(ref Reference, is, wanted *v1.Platform) error {
	err := fmt.Errorf("pull %q: %w: it is for %s, wanted %s", ref, ErrPlatform, is, wanted)
	if ref.IsSample() {
		return advice.Add(err, "%s is made of this machine's own programs; an image of a registry may be for %s", Sample, wanted)
	}
	return advice.Add(err, "to pull it anyway: --platform %s", is)
}
