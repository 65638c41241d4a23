//go:build linux

package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"gocker/final/internal/platform"
	"gocker/step01-pull/pull"
	"gocker/step01-pull/sample"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
)

// Limits of what is read into memory. Registries take no larger manifests: see "Pushing Manifests" in the
// distribution-spec. Real ones have some kilobytes.
const (
	maxManifest = 4 << 20 // bytes
	maxConfig   = 8 << 20 // bytes
	maxLayers   = 1000    // overlayfs lays at most 500 over each other
)

// An Image is what a registry says of one image, all of it checked but the layers, which have not come yet.
type Image struct {
	Digest   v1.Hash // what the name stands for there: the index's digest, or the manifest's
	Index    []byte  // as it was sent; nil where the name stands for one image only
	Manifest []byte  // as it was sent
	Config   []byte  // as it was sent

	ManifestDigest v1.Hash
	Layers         []v1.Descriptor // the lowest first
	ConfigDigest   v1.Hash

	repository repository
	downloads  downloads
}

// accepted are the kinds of manifest that a name may stand for, the better ones first.
var accepted = []types.MediaType{
	types.OCIImageIndex, types.DockerManifestList, types.OCIManifestSchema1, types.DockerManifestSchema2,
}

// Find asks for what ref stands for, at the mirrors and at its own registry. Its errors are ErrManifest, ErrPlainHTTP,
// those of package pull, or the registry's own.
func (o Options) Find(ctx context.Context, ref pull.Reference, wanted *v1.Platform) (*Image, error) {
	if wanted == nil {
		wanted = new(platform.Host())
	}
	all, err := o.places(ctx, ref)
	if err != nil {
		return nil, err
	}
	var failed error
	for _, r := range all {
		img, err := r.image(ctx, *wanted)
		if err == nil {
			return img, nil
		}
		asked := ref
		asked.Mirror = r.ref.Context().RegistryStr()
		if failed = errors.Join(failed, explainPull(ctx, asked, err)); ctx.Err() != nil {
			break
		}
	}
	return nil, failed
}

// places are the candidates; for the sample image a registry inside of this process, until ctx is done.
func (o Options) places(ctx context.Context, ref pull.Reference) ([]repository, error) {
	if !ref.IsSample() {
		return o.candidates(ref)
	}
	host, err := sample.Serve(ctx)
	if err != nil {
		return nil, err
	}
	full, err := name.ParseReference(host + "/" + pull.Sample)
	if err != nil {
		return nil, err
	}
	r, err := o.repository(full)
	return []repository{r}, err
}

// Digest asks only for the digest of what ref stands for: one request, if the registry wants no credentials.
func (o Options) Digest(ctx context.Context, ref pull.Reference) (v1.Hash, error) {
	all, err := o.places(ctx, ref)
	if err != nil {
		return v1.Hash{}, err
	}
	response, err := all[0].get(ctx, http.MethodHead, "manifests", all[0].ref.Identifier(), accepted...)
	if err != nil {
		return v1.Hash{}, explainPull(ctx, ref, err)
	}
	response.Body.Close()
	return v1.NewHash(response.Header.Get("Docker-Content-Digest"))
}

// maxPages is how many pages a list of tags may have: a registry gives them a thousand a page, or a hundred.
const maxPages = 100

// Tags lists the tags of a repository, at the mirrors or at its own registry.
func (o Options) Tags(ctx context.Context, ref pull.Reference) (tags []string, err error) {
	all, err := o.places(ctx, ref)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		if tags, err = r.tags(ctx); err == nil {
			return tags, nil
		}
	}
	return nil, explainPull(ctx, ref, err)
}

func (r repository) tags(ctx context.Context) (tags []string, err error) {
	at, err := url.Parse(r.url("tags", "list"))
	for n := 0; err == nil; n++ {
		var page struct{ Tags []string }
		var next string
		if next, err = r.page(ctx, at, &page); err != nil {
			break
		}
		tags = append(tags, page.Tags...)
		if next == "" {
			return tags, nil
		}
		if n >= maxPages {
			return nil, fmt.Errorf("%w: the list of its tags has more than %d pages", ErrManifest, maxPages)
		}
		at, err = at.Parse(next)
	}
	return nil, err
}

// page reads one page of a list, and tells where the next one is: see "Listing Tags" in the distribution-spec.
func (r repository) page(ctx context.Context, at *url.URL, to any) (next string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return "", err
	}
	response, err := r.client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	if err := check(response, http.StatusOK); err != nil {
		return "", err
	}
	raw, err := readAll(response.Body, maxManifest)
	if err == nil {
		err = dirs.ParseJSON(raw, to)
	}
	if err != nil {
		return "", fmt.Errorf("%w: read the list of its tags: %w", ErrManifest, err)
	}
	link, relation, _ := strings.Cut(response.Header.Get("Link"), ">")
	if !strings.Contains(relation, "next") {
		return "", nil
	}
	return strings.TrimPrefix(strings.TrimSpace(link), "<"), nil
}

func (r repository) image(ctx context.Context, wanted v1.Platform) (*Image, error) {
	img := &Image{repository: r}
	raw, mediaType, digest, err := r.manifest(ctx, r.ref.Identifier())
	if err != nil {
		return nil, err
	}
	img.Digest = digest
	if mediaType.IsIndex() {
		img.Index = raw
		child, err := Choose(raw, wanted, asked{ctx, r})
		if err != nil {
			return nil, err
		}
		if raw, mediaType, digest, err = r.manifest(ctx, child.String()); err != nil {
			return nil, err
		}
	}
	if !mediaType.IsImage() {
		return nil, fmt.Errorf("%w: its media type is %q, so it is %w", ErrManifest, mediaType, ErrOther)
	}
	img.Manifest, img.ManifestDigest = raw, digest
	manifest, err := ParseManifest(raw)
	if err != nil {
		return nil, err
	}
	img.Layers, img.ConfigDigest = manifest.Layers, manifest.Config.Digest
	if img.Config, err = r.config(ctx, manifest.Config); err != nil {
		return nil, err
	}
	return img, CheckConfig(img.Config, manifest, &wanted)
}

// asked are the documents of a registry.
type asked struct {
	ctx context.Context
	repository
}

func (a asked) Manifest(digest v1.Hash) (raw []byte, mediaType types.MediaType, err error) {
	raw, mediaType, _, err = a.manifest(a.ctx, digest.String())
	return raw, mediaType, err
}

func (a asked) Config(desc v1.Descriptor) ([]byte, error) { return a.config(a.ctx, desc) }

// get sends a request, and checks the answer's status.
func (r repository) get(ctx context.Context, method, kind, id string, accept ...types.MediaType) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, r.url(kind, id), nil)
	if err != nil {
		return nil, err
	}
	for _, mediaType := range accept {
		request.Header.Add("Accept", string(mediaType))
	}
	response, err := r.client.Do(request)
	if err != nil {
		return nil, err
	}
	if err := check(response, http.StatusOK); err != nil {
		response.Body.Close()
		return nil, err
	}
	return response, nil
}

// manifest fetches an index or a manifest by tag or digest.
func (r repository) manifest(ctx context.Context, id string) (raw []byte, mediaType types.MediaType, digest v1.Hash, err error) {
	response, err := r.get(ctx, http.MethodGet, "manifests", id, accepted...)
	if err != nil {
		return nil, "", digest, err
	}
	defer response.Body.Close()
	if raw, err = readAll(response.Body, maxManifest); err != nil {
		return nil, "", digest, fmt.Errorf("%w: read manifest %s: %w", ErrManifest, id, err)
	}
	if digest, _, err = v1.SHA256(bytes.NewReader(raw)); err != nil {
		return nil, "", digest, err
	}
	for _, promised := range []string{id, response.Header.Get("Docker-Content-Digest")} {
		if strings.HasPrefix(promised, "sha256:") && promised != digest.String() {
			return nil, "", digest, fmt.Errorf("%w: what was sent as manifest %s has the digest %s", ErrManifest, promised, digest)
		}
	}
	mediaType, err = MediaTypeOf(raw, response.Header.Get("Content-Type"))
	return raw, mediaType, digest, err
}

// MediaTypeOf finds out what a document is. A header and a document that contradict each other, or a document that can
// be read as two things, are refused: two programs would see two images (CVE-2021-41190).
func MediaTypeOf(raw []byte, header string) (types.MediaType, error) {
	var doc struct {
		SchemaVersion int             `json:"schemaVersion"`
		MediaType     types.MediaType `json:"mediaType"`
		Manifests     json.RawMessage `json:"manifests"`
		Layers        json.RawMessage `json:"layers"`
		Config        json.RawMessage `json:"config"`
	}
	if err := dirs.ParseJSON(raw, &doc); err != nil {
		return "", fmt.Errorf("%w: %w", ErrManifest, err)
	}
	if doc.SchemaVersion == 1 {
		return "", advice.Add(fmt.Errorf("%w: it has schema version 1, which docker gave up in 2019", ErrManifest),
			"pull it with an older docker and push it again")
	}
	if doc.Manifests != nil && (doc.Layers != nil || doc.Config != nil) {
		return "", fmt.Errorf("%w: it is an index and a manifest at once", ErrManifest)
	}
	header, _, _ = strings.Cut(header, ";")
	known := func(t types.MediaType) bool { return t.IsIndex() || t.IsImage() }
	switch sent := types.MediaType(strings.TrimSpace(header)); {
	case doc.MediaType != "" && known(sent) && sent != doc.MediaType:
		return "", fmt.Errorf("%w: it calls itself %q, the registry %q", ErrManifest, doc.MediaType, sent)
	case doc.MediaType != "":
		return doc.MediaType, nil
	case known(sent):
		return sent, nil
	case doc.Manifests != nil:
		return types.OCIImageIndex, nil
	}
	return types.OCIManifestSchema1, nil
}

// ParseManifest reads the manifest of one image, and refuses what no layer can be got from.
func ParseManifest(raw []byte) (*v1.Manifest, error) {
	manifest := &v1.Manifest{}
	if err := dirs.ParseJSON(raw, manifest); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	if !isConfig(manifest) {
		return nil, fmt.Errorf("%w: its config is %q, so it is %w", ErrManifest, manifest.Config.MediaType, ErrOther)
	}
	if n := len(manifest.Layers); n > maxLayers {
		return nil, fmt.Errorf("%w: it has %d layers; there may be %d", ErrManifest, n, maxLayers)
	}
	for i, desc := range append([]v1.Descriptor{manifest.Config}, manifest.Layers...) {
		if desc.Size < 0 || desc.Digest.Algorithm != "sha256" || len(desc.Digest.Hex) != 64 {
			return nil, fmt.Errorf("%w: the descriptor of %s, %d bytes, is none", ErrManifest, desc.Digest, desc.Size)
		}
		if i > 0 && !isLayer(desc.MediaType) {
			return nil, fmt.Errorf("%w: a layer of it is %q, so it is %w", ErrManifest, desc.MediaType, ErrOther)
		}
	}
	return manifest, nil
}

// isConfig tells whether a manifest's config is that of an image. Docker's first programs of schema 2, and some registries,
// called it otherwise, or not at all.
func isConfig(manifest *v1.Manifest) bool {
	old := []types.MediaType{"", "application/octet-stream", "application/json", "text/html"}
	return manifest.Config.MediaType.IsConfig() || manifest.MediaType != types.OCIManifestSchema1 && slices.Contains(old, manifest.Config.MediaType)
}

// isLayer tells whether something is a tar archive, however it is compressed: its first bytes say that.
func isLayer(mediaType types.MediaType) bool {
	_, compressed, ok := strings.Cut(string(mediaType), ".tar")
	return mediaType.IsLayer() || ok && slices.Contains([]string{"", "+gzip", ".gzip", "+zstd", ".zstd"}, compressed) &&
		(strings.HasPrefix(string(mediaType), "application/vnd.oci.image.layer.") || strings.HasPrefix(string(mediaType), "application/vnd.docker.image.rootfs."))
}

// CheckConfig sees that a config fits its manifest and the platform that is wanted, nil being any.
func CheckConfig(raw []byte, manifest *v1.Manifest, wanted *v1.Platform) error {
	config := &v1.ConfigFile{}
	if err := dirs.ParseJSON(raw, config); err != nil {
		return fmt.Errorf("%w: read config: %w", ErrManifest, err)
	}
	if config.RootFS.Type != "layers" && len(manifest.Layers) > 0 || len(config.RootFS.DiffIDs) != len(manifest.Layers) {
		return fmt.Errorf("%w: its config has a root file system of type %q with %d layers, the manifest has %d layers",
			ErrManifest, config.RootFS.Type, len(config.RootFS.DiffIDs), len(manifest.Layers))
	}
	// A name that stands for one image only was not asked for a platform, so its config has to say.
	if wanted != nil && !platform.Runs(config, *wanted) {
		is := platform.Normal(*config.Platform())
		return advice.Add(fmt.Errorf("%w: it is for %s, wanted %s", pull.ErrPlatform, is, wanted), "to pull it anyway: --platform %s", is)
	}
	return nil
}

func (r repository) config(ctx context.Context, desc v1.Descriptor) ([]byte, error) {
	if desc.Size > maxConfig {
		return nil, fmt.Errorf("%w: its config has %d bytes; there may be %d", ErrManifest, desc.Size, maxConfig)
	}
	response, err := r.get(ctx, http.MethodGet, "blobs", desc.Digest.String())
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	raw, err := readAll(response.Body, desc.Size)
	if err != nil {
		return nil, fmt.Errorf("%w: read config %s: %w", ErrManifest, desc.Digest, err)
	}
	if got, _, err := v1.SHA256(bytes.NewReader(raw)); err != nil || got != desc.Digest {
		return nil, fmt.Errorf("%w: what was sent as config %s has the digest %s", ErrManifest, desc.Digest, got)
	}
	if int64(len(raw)) != desc.Size {
		return nil, fmt.Errorf("%w: its config has %d bytes, not the size %d that the manifest says", ErrManifest, len(raw), desc.Size)
	}
	return raw, nil
}

// readAll is io.ReadAll for at most limit bytes.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("it is larger than %d bytes", limit)
	}
	return raw, err
}
