//go:build linux

package registry

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"gocker/final/internal/platform"
	"gocker/step01-pull/pull"
)

// nothing is a place without documents.
type nothing struct{}

func (nothing) Manifest(v1.Hash) ([]byte, types.MediaType, error) { return nil, "", ErrManifest }
func (nothing) Config(v1.Descriptor) ([]byte, error)              { return nil, ErrManifest }

func FuzzManifest(f *testing.F) {
	descriptor := `{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": "sha256:` + strings.Repeat("5", 64) + `", "size": 5}`
	f.Add("application/vnd.oci.image.manifest.v1+json", []byte(`{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": `+
		strings.Replace(descriptor, "layer.v1.tar+gzip", "config.v1+json", 1)+`, "layers": [`+descriptor+`]}`),
		[]byte(`{"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": ["sha256:`+strings.Repeat("5", 64)+`"]}}`))
	f.Add("application/vnd.oci.image.index.v1+json", []byte(`{"schemaVersion": 2, "manifests": [{"platform": {"os": "linux", "architecture": "amd64"}, `+
		strings.Replace(descriptor, "layer.v1.tar+gzip", "manifest.v1+json", 1)[1:]+`]}`), []byte("{}"))
	f.Add("text/html", []byte("<html>"), []byte("null"))
	f.Add("", []byte(`{"schemaVersion": 1}`), []byte(`[]`))
	f.Fuzz(func(t *testing.T, header string, raw, config []byte) {
		known := func(err error) {
			if !errors.Is(err, ErrManifest) && !errors.Is(err, pull.ErrPlatform) {
				t.Errorf("the error is %v, want ErrManifest or ErrPlatform", err)
			}
		}
		if _, err := MediaTypeOf(raw, header); err != nil {
			known(err)
			return
		}
		if _, err := Choose(raw, platform.Host(), nothing{}); err != nil {
			known(err)
		}
		manifest, err := ParseManifest(raw)
		if err != nil {
			known(err)
			return
		}
		for _, desc := range append(manifest.Layers, manifest.Config) {
			if desc.Size < 0 || len(desc.Digest.Hex) != 64 || filepath.Base(desc.Digest.Hex) != desc.Digest.Hex {
				t.Errorf("ParseManifest lets %+v pass", desc)
			}
		}
		if err := CheckConfig(config, manifest, new(platform.Host())); err != nil {
			known(err)
		}
	})
}
