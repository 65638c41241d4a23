//go:build linux

package hostile

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"gocker/step01-pull/sample"
	"gocker/step01-pull/shared/testenv"
)

// A layer is what a registry sends as one, and the diffID that the config promises.
type layer struct {
	blob   []byte
	diffID string
}

// An image is a manifest, its config and its layers. A case may bend each of them.
type image struct {
	config   v1.ConfigFile
	manifest v1.Manifest
	blobs    map[string]sent // by digest

	raw       []byte       // instead of manifest
	mediaType string       // of the manifest, as the header says it
	answer    http.Handler // instead of sending the manifest
	password  string       // of the user "u"; "": anybody may pull
}

// sent is how a blob is sent: size bytes, or fewer where body has fewer.
type sent struct {
	body func() io.Reader
	size int64
}

func digest(b []byte) string {
	h := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(h[:])
}

func hash(s string) v1.Hash {
	algorithm, hex, _ := strings.Cut(s, ":")
	return v1.Hash{Algorithm: algorithm, Hex: hex}
}

// newImage is an honest image of the layers, the lowest first.
func newImage(layers ...layer) *image {
	i := &image{
		config: v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH, RootFS: v1.RootFS{Type: "layers"}},
		manifest: v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1,
			Config: v1.Descriptor{MediaType: types.OCIConfigJSON}},
		blobs: map[string]sent{},
	}
	for _, l := range layers {
		i.add(l)
	}
	return i
}

func (i *image) add(l layer) {
	i.config.RootFS.DiffIDs = append(i.config.RootFS.DiffIDs, hash(l.diffID))
	i.manifest.Layers = append(i.manifest.Layers, v1.Descriptor{
		MediaType: types.OCILayer, Digest: hash(digest(l.blob)), Size: int64(len(l.blob)),
	})
	i.send(l.blob)
}

func (i *image) send(blob []byte) string {
	name := digest(blob)
	i.blobs[name] = sent{func() io.Reader { return bytes.NewReader(blob) }, int64(len(blob))}
	return name
}

// seal makes the manifest name the config as it is now.
func (i *image) seal(t testing.TB) *image {
	t.Helper()
	raw, err := json.Marshal(i.config)
	if err != nil {
		t.Fatal(err)
	}
	return i.sealWith(raw)
}

func (i *image) sealWith(config []byte) *image {
	i.manifest.Config.Digest, i.manifest.Config.Size = hash(i.send(config)), int64(len(config))
	return i
}

// ServeHTTP is the part of the distribution specification that a pull needs.
func (i *image) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, password, _ := r.BasicAuth(); password != i.password {
		w.Header().Set("WWW-Authenticate", "Basic realm=any")
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	name := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	switch {
	case r.URL.Path == "/v2/":
	case strings.Contains(r.URL.Path, "/manifests/") && i.answer != nil:
		i.answer.ServeHTTP(w, r)
	case strings.Contains(r.URL.Path, "/manifests/"):
		raw := i.raw
		if raw == nil {
			raw, _ = json.Marshal(i.manifest) // numbers and strings can always be encoded
		}
		mediaType := i.mediaType
		if mediaType == "" {
			mediaType = string(i.manifest.MediaType)
		}
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("Docker-Content-Digest", digest(raw))
		w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
		w.Write(raw)
	default:
		blob, ok := i.blobs[name]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Length", strconv.FormatInt(blob.size, 10))
		io.Copy(w, io.LimitReader(blob.body(), blob.size))
	}
}

// zeros has no end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// spaces has no end either, and is the beginning of any JSON.
type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// archive is a layer of what write writes, compressed.
func archive(t testing.TB, write func(w io.Writer) error) layer {
	t.Helper()
	var blob bytes.Buffer
	plain := sha256.New()
	zip, err := gzip.NewWriterLevel(&blob, gzip.BestSpeed)
	if err == nil {
		err = write(io.MultiWriter(plain, zip))
	}
	if err == nil {
		err = zip.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return layer{blob.Bytes(), "sha256:" + hex.EncodeToString(plain.Sum(nil))}
}

// of is a layer of entries.
func of(t testing.TB, entries ...testenv.Entry) layer {
	return bytesOf(t, testenv.Tar(t, entries...))
}

// bytesOf is a layer of a tar archive that no library would write.
func bytesOf(t testing.TB, plain []byte) layer {
	return archive(t, func(w io.Writer) error { _, err := w.Write(plain); return err })
}

// many is a layer of n entries.
func many(t testing.TB, n int, entry func(n int) *tar.Header) layer {
	return archive(t, func(w io.Writer) error {
		archive := tar.NewWriter(w)
		for i := range n {
			if err := archive.WriteHeader(entry(i)); err != nil {
				return err
			}
		}
		return archive.Close()
	})
}

// sampleLayers are those of the image sample: an image that is to run begins with them.
func sampleLayers(t testing.TB) (layers []layer, config v1.ConfigFile) {
	t.Helper()
	img, _, err := sample.Image()
	if err != nil {
		t.Fatal(err)
	}
	all, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range all {
		r, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		blob, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		diffID, err := l.DiffID()
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, layer{blob, diffID.String()})
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return layers, *file
}
