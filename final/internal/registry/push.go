//go:build linux

package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
)

// maxCommit is how long a registry may take for its answer to a layer: it computes the digest of all of it.
const maxCommit = 10 * time.Minute

// Push sends an image to its own registry; mirrors are not asked. Layers that are there already are not sent.
func (o Options) Push(ctx context.Context, ref pull.Reference, img v1.Image) error {
	base, err := o.transport(ref.Registry(), maxCommit)
	if err != nil {
		return err
	}
	var options []name.Option
	if o.Insecure {
		options = append(options, name.Insecure)
	}
	target, err := name.ParseReference(ref.Full(), options...)
	if err != nil {
		return err
	}
	err = remote.Write(target, img, remote.WithContext(ctx), remote.WithTransport(base), remote.WithAuthFromKeychain(authn.DefaultKeychain),
		remote.WithRetryBackoff(backoff), remote.WithRetryPredicate(isPassing), remote.WithRetryStatusCodes(retried...))
	var status *transport.Error
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("push %q: %w", ref, context.Cause(ctx))
	case errors.As(err, &status) && (status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden):
		return advice.Add(fmt.Errorf("push %q: %w: %w", ref, pull.ErrUnauthorized, err), "to log in: gocker login %s", ref.Registry())
	}
	return fmt.Errorf("push %q: %w", ref, err)
}
