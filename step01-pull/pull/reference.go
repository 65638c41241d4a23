package pull

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"

	"gocker/step01-pull/shared/advice"
)

// ErrReference says that a word is not the name of an image.
var ErrReference = errors.New("not an image reference")

// A Reference is the name of an image: [registry[:port]/]name[:tag][@digest], with docker's defaults.
//
//	alpine                     index.docker.io/library/alpine:latest
//	ubuntu:18.04               index.docker.io/library/ubuntu:18.04
//	ghcr.io/owner/app:v1       as it stands
//	127.0.0.1:5000/debian      127.0.0.1:5000/debian:latest, over plain http
//	alpine@sha256:59bf…        whatever the tag says, this manifest
//	sample                     an image made on the spot: see package sample
type Reference struct {
	Name string // as people write it, without docker's defaults: "alpine", "ghcr.io/owner/app"
	Tag  string // "latest", or a digest: "sha256:…"

	// Mirror is the host, with its port, that is asked in place of the reference's own registry; "" is none.
	Mirror string

	full name.Reference
}

// Sample is the name of the image that needs no network.
const Sample = "sample"

// repository is the grammar of the distribution-spec ("Pulling manifests"). The library's own check knows only which
// characters there are: to it, "../x" is a name too. It is compiled when a name is read first: most commands read none.
var repository = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
})

// registryName is a host, by name or address, and a port: to the library, ".." is one, too.
var registryName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])(:[0-9]+)?$`)
})

// ParseReference reads what a user typed. Its error is an ErrReference.
func ParseReference(s string) (Reference, error) {
	full, err := name.ParseReference(s)
	if err != nil {
		// ParseReference tries a tag, then a digest, and says only that neither fits; the one that was meant says why.
		_, reason := name.NewTag(s)
		if strings.Contains(s, "@") {
			_, reason = name.NewDigest(s)
		}
		if reason != nil {
			err = reason
		}
	} else if !repository().MatchString(full.Context().RepositoryStr()) {
		err = errors.New("between slashes, a name is letters and digits, with single . or _ or any number of - between them")
	} else if host := full.Context().RegistryStr(); host != name.DefaultRegistry && !registryName().MatchString(host) {
		err = fmt.Errorf("%q is no host", host)
	}
	if err != nil {
		return Reference{}, advice.Add(fmt.Errorf("%w: %q: %w", ErrReference, s, err),
			"a reference is [registry[:port]/]name[:tag][@sha256:digest], in lower case but for the tag; for example alpine:latest")
	}
	familiar := full.Context().Name()
	for _, defaults := range []string{name.DefaultRegistry + "/", name.DefaultRegistry + "/library/"} {
		// They may go if they come back: docker.io/a.example/b is not what a.example has.
		short, ok := strings.CutPrefix(full.Context().Name(), defaults)
		if again, err := name.NewRepository(short); ok && err == nil && again.Name() == full.Context().Name() {
			familiar = short
		}
	}
	return Reference{Name: familiar, Tag: full.Identifier(), full: full}, nil
}

// String is the shortest spelling that means the same image.
func (r Reference) String() string {
	if _, ok := r.full.(name.Digest); ok {
		return r.Name + "@" + r.Tag
	}
	return r.Name + ":" + r.Tag
}

// MarshalText is String, so that a reference can be written down.
func (r Reference) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText is ParseReference.
func (r *Reference) UnmarshalText(text []byte) (err error) {
	*r, err = ParseReference(string(text))
	return err
}

// Full is the name with all defaults filled in.
func (r Reference) Full() string { return r.full.Name() }

// Registry is the host, with its port, that is asked for the image.
func (r Reference) Registry() string { return cmp.Or(r.Mirror, r.full.Context().RegistryStr()) }

// from is the full name of the image at the registry that is asked.
func (r Reference) from() string {
	return r.Registry() + strings.TrimPrefix(r.Full(), r.full.Context().RegistryStr())
}

// IsSample tells whether this is the image that needs no network.
func (r Reference) IsSample() bool {
	return r.Name == Sample && r.Tag == name.DefaultTag && r.Mirror == ""
}
