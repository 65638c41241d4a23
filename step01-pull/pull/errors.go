package pull

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/crane"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"gocker/step01-pull/shared/advice"
)

// What can be wrong with a name that is well formed.
var (
	ErrNotFound     = errors.New("no such image")
	ErrUnauthorized = errors.New("the registry wants credentials, or has no such image")
	ErrUnreachable  = errors.New("cannot reach the registry")
	ErrPlatform     = errors.New("the image is not made for this platform")
)

// Explain turns what the library says of a request into one of this package's errors.
func Explain(ctx context.Context, ref Reference, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("pull %q: %w", ref, context.Cause(ctx))
	}
	var status *transport.Error
	var network net.Error
	switch {
	case strings.HasPrefix(err.Error(), "no child with platform"): // the library has no value for it
		return advice.Add(fmt.Errorf("pull %q: %w: %w", ref, ErrPlatform, err),
			"--platform is one of: %s", strings.Join(platforms(ctx, ref), ", "))
	case errors.As(err, &status) && status.StatusCode == http.StatusNotFound:
		return advice.Add(fmt.Errorf("pull %q: %w at %s: %w", ref, ErrNotFound, ref.Registry(), err),
			"check the spelling of name and tag")
	case errors.As(err, &status) && (status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden):
		return advice.Add(fmt.Errorf("pull %q: %w: %w", ref, ErrUnauthorized, err),
			"check the spelling, or log in: credentials are read from ~/.docker/config.json (docker login %s)", ref.Registry())
	case errors.As(err, &network):
		return advice.Add(fmt.Errorf("pull %q: %w %s: %w", ref, ErrUnreachable, ref.Registry(), err),
			"without a network there is the image %q", Sample)
	}
	return fmt.Errorf("pull %q: %w", ref, err)
}

// platforms lists what an index offers; it is for a message, so it has no errors.
func platforms(ctx context.Context, ref Reference) (names []string) {
	var index v1.IndexManifest
	if raw, err := crane.Manifest(ref.from(), crane.WithContext(ctx)); err == nil {
		_ = json.Unmarshal(raw, &index)
	}
	for _, m := range index.Manifests {
		if m.Platform != nil && m.Platform.OS != "unknown" {
			names = append(names, m.Platform.String())
		}
	}
	return names
}

// otherPlatform is the error of an image that was not made for the platform that is wanted.
func otherPlatform(ref Reference, is, wanted *v1.Platform) error {
	err := fmt.Errorf("pull %q: %w: it is for %s, wanted %s", ref, ErrPlatform, is, wanted)
	if ref.IsSample() {
		return advice.Add(err, "%s is made of this machine's own programs; an image of a registry may be for %s", Sample, wanted)
	}
	return advice.Add(err, "to have it all the same: --platform %s", is)
}
