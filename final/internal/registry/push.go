//go:build linux

package registry

import (
	"context"
	"fmt"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"gocker/step01-pull/pull"
)

// maxCommit is how long a registry may take for its answer to a layer: it computes the digest of all of it.
const maxCommit = 10 * time.Minute

// Push sends an image to its own registry; mirrors are not asked. Layers that are there already are not sent.
func (o Options) Push(ctx context.Context, ref pull.Reference, img v1.Image) error {
	target, err := name.ParseReference(ref.Full())
	if err != nil {
		return err
	}
	registry := target.Context().Registry
	c, err := o.caller(registry.RegistryStr(), maxCommit, keptFor(target.Context()), target.Scope(transport.PushScope))
	if err != nil {
		return err
	}
	// A transport of this kind the library takes as it is: it puts neither tries nor credentials of its own around it.
	ours, err := transport.FromToken(registry, authn.Anonymous, c.retrying(), &transport.Challenge{}, nil)
	if err != nil {
		return err
	}
	err = remote.Write(target, img, remote.WithContext(ctx), remote.WithTransport(ours), remote.WithRetryBackoff(backoff), remote.WithRetryPredicate(isPassing))
	if err != nil {
		return explain(ctx, fmt.Sprintf("push %q", ref), registry.RegistryStr(), err)
	}
	return nil
}
