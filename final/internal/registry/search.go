//go:build linux

package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"gocker/step01-pull/shared/advice"
)

// ErrNoSearch says that a registry has images only by their names.
var ErrNoSearch = errors.New("the registry cannot be searched")

// A Result is a repository that a search has found.
type Result struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	StarCount   int    `json:"star_count"`
	IsOfficial  bool   `json:"is_official"`
	IsAutomated bool   `json:"is_automated"`
}

// Search asks a registry for repositories, limit of them at most, by the only search that docker's registries have ever had:
// GET /v1/search. Today it is Docker Hub's. No specification has it.
func (o Options) Search(ctx context.Context, host, term string, limit int) ([]Result, error) {
	what := fmt.Sprintf("search %q at %s", term, host)
	registry, err := name.NewRegistry(host)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	c, err := o.caller(registry.RegistryStr(), maxStall, func(ctx context.Context) (authn.Authenticator, error) {
		return authn.Resolve(ctx, authn.DefaultKeychain, registry)
	})
	if err != nil {
		return nil, err
	}
	query := url.Values{"q": {term}, "n": {strconv.Itoa(limit)}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+registry.RegistryStr()+"/v1/search?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	response, err := (&http.Client{Transport: c.retrying(), CheckRedirect: notForEver}).Do(request)
	if err == nil {
		defer response.Body.Close()
		err = check(response, http.StatusOK)
	}
	var status *transport.Error
	if errors.As(err, &status) && status.StatusCode == http.StatusNotFound {
		return nil, advice.Add(fmt.Errorf("%s: %w", what, ErrNoSearch), "it has no /v1/search, as most registries; look at its own pages, or if you know a name: gocker pull %s/NAME", host)
	}
	if err != nil {
		return nil, explain(ctx, what, host, err)
	}
	raw, err := readAll(response.Body, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	var found struct{ Results []Result }
	if err := json.Unmarshal(raw, &found); err != nil {
		return nil, advice.Add(fmt.Errorf("%s: %w: its answer is not a search's: %w", what, ErrNoSearch, err), "look at its own pages, or if you know a name: gocker pull %s/NAME", host)
	}
	return found.Results[:min(limit, len(found.Results))], nil
}
