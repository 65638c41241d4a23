//go:build linux

package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"gocker/final/internal/platform"
	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/testenv"
)

func TestMain(m *testing.M) {
	backoff.Duration = time.Millisecond
	maxStall = 10 * time.Second // a slow machine is no broken connection
	os.Exit(m.Run())
}

// noise is n bytes that no compression makes smaller.
func noise(n int) string {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{}).Read(b)
	return string(b)
}

// A fault stands between a registry and one answer with a layer: it may write it itself, or pass it on.
type fault func(w http.ResponseWriter, r *http.Request, content []byte)

// serve has an image of one large layer. The faults are for the layer's first, second, … request; the last one stays.
// asked returns the ranges that the layer was asked for since the last call.
func serve(t testing.TB, faults ...fault) (ref pull.Reference, layer []byte, asked func() []string) {
	t.Helper()
	img := testenv.Image(t, testenv.Tar(t, testenv.File("big", noise(1<<20))))
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	sent, err := layers[0].Compressed()
	if err != nil {
		t.Fatal(err)
	}
	if layer, err = io.ReadAll(sent); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var ranges []string
	address := testenv.Registry(t, func(registry http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, digest.String()) {
				registry.ServeHTTP(w, r)
				return
			}
			mu.Lock()
			ranges = append(ranges, r.Header.Get("Range"))
			answer := good
			if len(faults) > 0 {
				answer = faults[0]
			}
			if len(faults) > 1 {
				faults = faults[1:]
			}
			mu.Unlock()
			answer(w, r, layer)
		})
	})
	testenv.Push(t, img, address+"/image")
	if ref, err = pull.ParseReference(address + "/image"); err != nil {
		t.Fatal(err)
	}
	return ref, layer, func() []string {
		mu.Lock()
		defer mu.Unlock()
		was := ranges
		ranges = nil
		return was
	}
}

func good(w http.ResponseWriter, r *http.Request, content []byte) {
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
}

// cut sends half of what was asked for and then nothing more, on a connection that ends.
func cut(w http.ResponseWriter, r *http.Request, content []byte) {
	recorder := httptest.NewRecorder()
	good(recorder, r, content)
	maps.Copy(w.Header(), recorder.Header())
	w.WriteHeader(recorder.Code)
	w.Write(recorder.Body.Bytes()[:recorder.Body.Len()/2])
	panic(http.ErrAbortHandler)
}

// stall is cut, but the connection stays.
func stall(w http.ResponseWriter, r *http.Request, content []byte) {
	w.Header().Set("Content-Length", fmt.Sprint(len(content)))
	w.Write(content[:len(content)/2])
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

func noRanges(w http.ResponseWriter, r *http.Request, content []byte) { w.Write(content) }

func refusesRanges(w http.ResponseWriter, r *http.Request, content []byte) {
	if r.Header.Get("Range") != "" {
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		return
	}
	w.Write(content)
}

func wrongRange(w http.ResponseWriter, r *http.Request, content []byte) {
	w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(content)-1, len(content)))
	w.WriteHeader(http.StatusPartialContent)
	w.Write(content)
}

func status(code int) fault {
	return func(w http.ResponseWriter, r *http.Request, _ []byte) { w.WriteHeader(code) }
}

// fetch reads the image's layer as a pull does.
func fetch(t testing.TB, ref pull.Reference, folder string) ([]byte, error) {
	t.Helper()
	img, err := Options{}.Find(context.Background(), ref, nil)
	if err != nil {
		return nil, err
	}
	stream, err := img.Open(context.Background(), 0, folder, func(int64) {})
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	return io.ReadAll(stream)
}

func TestADownloadSurvives(t *testing.T) {
	for _, tt := range []struct {
		what   string
		faults []fault
		asked  int // times
	}{
		{"nothing in its way", []fault{good}, 1},
		{"a cut connection", []fault{cut, good}, 2},
		{"many cut connections", []fault{cut, cut, cut, cut, cut, cut, cut, cut, good}, 9},
		{"a stalled connection", []fault{stall, good}, 2},
		{"a cut, at a registry that knows no ranges", []fault{cut, noRanges}, 2},
		{"a cut, at a registry that refuses ranges", []fault{cut, refusesRanges}, 3},
		{"a cut, and then another range than the one asked for", []fault{cut, wrongRange, good}, 3},
		{"too many requests", []fault{status(429), status(429), good}, 3},
		{"an internal error", []fault{status(500), good}, 2},
		{"an internal error after a cut", []fault{cut, status(503), good}, 3},
	} {
		t.Run(tt.what, func(t *testing.T) {
			ref, want, asked := serve(t, tt.faults...)
			got, err := fetch(t, ref, t.TempDir())
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes, %v; want the %d that the layer has", len(got), err, len(want))
			}
			if ranges := asked(); len(ranges) != tt.asked {
				t.Errorf("the layer was asked for %d times, for the ranges %q; want %d", len(ranges), ranges, tt.asked)
			}
		})
	}
}

func TestADownloadEndsWithAClearError(t *testing.T) {
	for _, tt := range []struct {
		what  string
		fault fault
		want  error
		says  string
	}{
		{"the registry sends nothing any more", cutAt(1000), ErrBroken, "at 1000 of"},
		{"it has internal errors for good", status(500), ErrBroken, "500"},
		{"it does not have the layer", status(404), nil, "404"},
		{"it sends too much", func(w http.ResponseWriter, r *http.Request, content []byte) {
			w.Write(append(content, 0))
		}, errSize, "more than"},
		{"it sends too little", func(w http.ResponseWriter, r *http.Request, content []byte) {
			w.Write(content[:1000])
		}, errSize, "it has 1000 bytes"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			ref, _, asked := serve(t, tt.fault)
			_, err := fetch(t, ref, t.TempDir())
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("the download ended with %v; want %v, and %q", err, tt.want, tt.says)
			}
			if n := len(asked()); n > 30 {
				t.Errorf("the layer was asked for %d times", n)
			}
		})
	}
}

func TestADownloadThatAlwaysStallsEnds(t *testing.T) {
	defer func(was time.Duration) { maxStall = was }(maxStall)
	maxStall = 300 * time.Millisecond
	ref, _, _ := serve(t, stall)
	if _, err := fetch(t, ref, t.TempDir()); !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), "nothing came for") {
		t.Errorf("the download ended with %v; want ErrBroken, and that nothing came", err)
	}
}

// cutAt sends n bytes of the layer and no more, ever.
func cutAt(n int) fault {
	return func(w http.ResponseWriter, r *http.Request, content []byte) {
		if r.Header.Get("Range") != "" {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		w.Write(content[:n])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

func TestADownloadGoesOnWhereAnotherHasEnded(t *testing.T) {
	ref, want, asked := serve(t)
	folder := t.TempDir()
	name := filepath.Join(folder, sum(want))
	for _, tt := range []struct {
		what  string
		left  []byte
		asked []string
	}{
		{"nine tenths are here", want[:len(want)*9/10], []string{fmt.Sprintf("bytes=%d-%d", len(want)*9/10, len(want)-1)}},
		{"all is here", want, nil},
		{"more is here than there can be", append(slices.Clone(want), 1), []string{""}},
	} {
		if err := os.WriteFile(name, tt.left, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := fetch(t, ref, folder)
		if ranges := asked(); err != nil || !bytes.Equal(got, want) || !slices.Equal(ranges, tt.asked) {
			t.Errorf("%s: %d bytes, %v, asked for %q; want %d bytes, asked for %q", tt.what, len(got), err, ranges, len(want), tt.asked)
		}
	}
}

func sum(content []byte) string {
	h := sha256.Sum256(content)
	return hex.EncodeToString(h[:])
}

func TestPlainHTTPIsForThisMachineOnly(t *testing.T) {
	for _, tt := range []struct {
		url      string
		insecure bool
		ok       bool
	}{
		{"http://127.0.0.1:5000/", false, true},
		{"http://[::1]:5000/", false, true},
		{"http://localhost/", false, true},
		{"http://10.0.0.1/", false, false},
		{"http://registry.local/", false, false},
		{"http://localhost.example.com/", false, false},
		{"http://10.0.0.1/", true, true},
		{"https://10.0.0.1/", false, true},
	} {
		passed := errors.New("passed")
		g := &border{RoundTripper: roundTrip(func(*http.Request) (*http.Response, error) { return nil, passed }), options: Options{Insecure: tt.insecure, AllowPrivate: true}}
		request, err := http.NewRequest(http.MethodGet, tt.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = g.RoundTrip(request)
		if errors.Is(err, passed) != tt.ok || !tt.ok && !errors.Is(err, ErrPlainHTTP) {
			t.Errorf("%s, insecure %v: %v; want it passed: %v", tt.url, tt.insecure, err, tt.ok)
		}
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// documents serves one document as every manifest, and one config.
func documents(t testing.TB, contentType string, manifest, config []byte) pull.Reference {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("Content-Type", contentType)
			w.Write(manifest)
			return
		}
		w.Write(config)
	}))
	t.Cleanup(server.Close)
	ref, err := pull.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/image")
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func TestManifestsThatAreNoneAreRefused(t *testing.T) {
	img := testenv.Image(t, testenv.Tar(t, testenv.File("a", "1")))
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	fine, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	change := func(edit func(m *v1.Manifest)) []byte {
		m := fine.DeepCopy()
		edit(m)
		raw, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	const docker = string(types.DockerManifestSchema2)
	for _, tt := range []struct {
		what     string
		typ      string
		manifest []byte
		config   []byte
		want     error
		says     string
	}{
		{"as it should be", docker, change(func(*v1.Manifest) {}), config, nil, ""},
		{"no JSON", docker, []byte("<html>"), config, ErrManifest, "invalid character"},
		{"schema 1", "application/vnd.docker.distribution.manifest.v1+prettyjws", []byte(`{"schemaVersion":1,"fsLayers":[]}`), config, ErrManifest, "schema version 1"},
		{"an index and a manifest at once", "", []byte(`{"schemaVersion":2,"manifests":[],"layers":[]}`), config, ErrManifest, "at once"},
		{"a header that says something else", string(types.OCIImageIndex), change(func(*v1.Manifest) {}), config, ErrManifest, "calls itself"},
		{"larger than any", docker, bytes.Repeat([]byte(" "), maxManifest+1), config, ErrManifest, "larger than"},
		{"something else than an image", "", change(func(m *v1.Manifest) { m.Config.MediaType = "application/vnd.cncf.helm.config.v1+json" }), config, ErrManifest, "helm"},
		{"a layer that is none", docker, change(func(m *v1.Manifest) { m.Layers[0].MediaType = "text/plain" }), config, ErrManifest, "text/plain"},
		{"fewer layers than the config has", docker, change(func(m *v1.Manifest) { m.Layers = nil }), config, ErrManifest, "the manifest has 0 layers"},
		{"docker's zstd", docker, change(func(m *v1.Manifest) { m.Layers[0].MediaType = "application/vnd.docker.image.rootfs.diff.tar.zstd" }), config, nil, ""},
		{"OCI's zstd", "", change(func(m *v1.Manifest) { m.Layers[0].MediaType = types.OCILayerZStd }), config, nil, ""},
		{"a layer that is encrypted", "", change(func(m *v1.Manifest) { m.Layers[0].MediaType = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted" }), config, ErrOther, "encrypted"},
		{"a config of octets", docker, change(func(m *v1.Manifest) { m.Config.MediaType = "application/octet-stream" }), config, nil, ""},
		{"a config of JSON", docker, change(func(m *v1.Manifest) { m.Config.MediaType = "application/json" }), config, nil, ""},
		{"a config of HTML", docker, change(func(m *v1.Manifest) { m.Config.MediaType = "text/html" }), config, nil, ""},
		{"a config of nothing", docker, change(func(m *v1.Manifest) { m.Config.MediaType = "" }), config, nil, ""},
		{"OCI's with a config of octets", "", change(func(m *v1.Manifest) {
			m.MediaType, m.Config.MediaType = types.OCIManifestSchema1, "application/octet-stream"
		}), config, ErrOther, "octet-stream"},
		{"a list", docker, []byte("[]"), config, ErrManifest, "JSON of another kind: array"},
		{"a size that is a word", docker, []byte(`{"schemaVersion":2,"config":{"size":"big"}}`), config, ErrManifest, `"config.size" cannot be of this kind: string`},
		{"10,000 layers", docker, change(func(m *v1.Manifest) { m.Layers = slices.Repeat(m.Layers, 10_000) }), config, ErrManifest, "10000 layers"},
		{"a negative size", docker, change(func(m *v1.Manifest) { m.Layers[0].Size = -1 }), config, ErrManifest, "-1 bytes"},
		{"more layers than the config has", docker, change(func(m *v1.Manifest) { m.Layers = slices.Repeat(m.Layers, 2) }), config, ErrManifest, "with 1 layers"},
		{"a config of a gigabyte", docker, change(func(m *v1.Manifest) { m.Config.Size = 1 << 30 }), config, ErrManifest, "1073741824 bytes"},
		{"a config that is longer than promised", docker, change(func(m *v1.Manifest) { m.Config.Size = 10 }), config, ErrManifest, "larger than 10"},
		{"another config", docker, change(func(*v1.Manifest) {}), []byte("{}"), ErrManifest, "has the digest"},
		{"an index without this platform", string(types.OCIImageIndex), []byte(`{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"sha256:` + strings.Repeat("0", 64) + `","platform":{"os":"linux","architecture":"vax"}}]}`), config, pull.ErrPlatform, "not made for"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			_, err := Options{}.Find(context.Background(), documents(t, tt.typ, tt.manifest, tt.config), nil)
			if !errors.Is(err, tt.want) || err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Find = %v; want %v, and %q", err, tt.want, tt.says)
			}
		})
	}
}

func TestWhatIsNamedByADigestHasIt(t *testing.T) {
	img := testenv.Image(t, testenv.Tar(t, testenv.File("a", "1")))
	manifest, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	ref := documents(t, string(types.DockerManifestSchema2), manifest, config)
	if ref, err = pull.ParseReference(ref.Name + "@sha256:" + strings.Repeat("0", 64)); err != nil {
		t.Fatal(err)
	}
	if _, err := (Options{}).Find(context.Background(), ref, nil); !errors.Is(err, ErrManifest) {
		t.Errorf("Find = %v, want ErrManifest", err)
	}
}

func TestAMirrorIsAskedFirst(t *testing.T) {
	img := testenv.Image(t, testenv.Tar(t, testenv.File("a", "1")))
	var asked []string
	count := func(name string) func(http.Handler) http.Handler {
		return func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/manifests/") {
					asked = append(asked, name)
				}
				h.ServeHTTP(w, r)
			})
		}
	}
	own, mirror := testenv.Registry(t, count("own")), testenv.Registry(t, count("mirror"))
	testenv.Push(t, img, own+"/image")
	ref, err := pull.ParseReference(own + "/image")
	if err != nil {
		t.Fatal(err)
	}
	opts := Options{Mirrors: []string{own + "=" + mirror}}
	find := func(want ...string) {
		t.Helper()
		asked = nil
		if _, err := opts.Find(context.Background(), ref, nil); err != nil || !slices.Equal(asked, want) {
			t.Errorf("Find = %v, asked %q, want %q", err, asked, want)
		}
	}
	find("mirror", "own")
	testenv.Push(t, img, mirror+"/image")
	find("mirror")
	opts.Mirrors = []string{mirror} // of docker.io
	find("own")
}

func TestTagsComeInPages(t *testing.T) {
	endless := false
	address := testenv.Registry(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch last := r.URL.Query().Get("last"); {
			case r.URL.Path != "/v2/some/image/tags/list":
				w.WriteHeader(http.StatusNotFound)
			case last == "" || endless:
				w.Header().Set("Link", `</v2/some/image/tags/list?last=b&n=2>; rel="next"`)
				fmt.Fprint(w, `{"name":"some/image","tags":["a","b"]}`)
			default:
				fmt.Fprint(w, `{"name":"some/image","tags":["c"]}`)
			}
		})
	})
	parse := func(name string) pull.Reference {
		ref, err := pull.ParseReference(address + name)
		if err != nil {
			t.Fatal(err)
		}
		return ref
	}
	if tags, err := (Options{}).Tags(t.Context(), parse("/some/image")); err != nil || !slices.Equal(tags, []string{"a", "b", "c"}) {
		t.Errorf("Tags = %q, %v; want a, b, c", tags, err)
	}
	if tags, err := (Options{}).Tags(t.Context(), parse("/other")); !errors.Is(err, pull.ErrNotFound) {
		t.Errorf("Tags of what is not there = %q, %v; want ErrNotFound", tags, err)
	}
	endless = true
	if _, err := (Options{}).Tags(t.Context(), parse("/some/image")); !errors.Is(err, ErrManifest) {
		t.Errorf("Tags of a list without an end = %v, want ErrManifest", err)
	}
}

// imageFor is an image whose config says what platform it is for.
func imageFor(t testing.TB, is v1.Platform) v1.Image {
	t.Helper()
	base := testenv.Image(t, testenv.Tar(t, testenv.File("platform", is.String())))
	config, err := base.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant = is.OS, is.Architecture, is.Variant
	img, err := mutate.ConfigFile(base, config)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestTheRightOneOfAnIndexIsChosen(t *testing.T) {
	address := testenv.Registry(t, nil)
	index := v1.ImageIndex(empty.Index)
	images := map[string]v1.Image{}
	for _, p := range []string{"linux/amd64/v4", "linux/amd64", "linux/arm64/v8", "linux/arm/v6", "linux/arm/v5"} {
		is, err := v1.ParsePlatform(p)
		if err != nil {
			t.Fatal(err)
		}
		images[p] = imageFor(t, *is)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: images[p], Descriptor: v1.Descriptor{Platform: is}})
	}
	// What buildkit adds to every image.
	index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: testenv.Image(t), Descriptor: v1.Descriptor{
		Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}, Annotations: map[string]string{"vnd.docker.reference.type": "attestation-manifest"}}})
	testenv.PushIndex(t, index, address+"/index")
	ref, err := pull.ParseReference(address + "/index")
	if err != nil {
		t.Fatal(err)
	}
	for asked, want := range map[string]string{
		"linux/amd64": "linux/amd64", "amd64": "linux/amd64", "linux/x86_64": "linux/amd64", "linux/amd64/v4": "linux/amd64/v4", "linux/amd64/v3": "linux/amd64",
		"linux/arm64": "linux/arm64/v8", "linux/arm64/v8": "linux/arm64/v8", "arm64": "linux/arm64/v8", "linux/aarch64": "linux/arm64/v8",
		"linux/arm/v7": "linux/arm/v6", "arm": "linux/arm/v6", "linux/arm/v5": "linux/arm/v5",
	} {
		wanted, err := platform.Parse(asked)
		if err != nil {
			t.Fatal(err)
		}
		img, err := Options{}.Find(context.Background(), ref, &wanted)
		if err != nil {
			t.Errorf("%s: %v", asked, err)
			continue
		}
		if name, err := images[want].ConfigName(); err != nil || img.ConfigDigest != name {
			t.Errorf("%s is image %s, want %s, that for %s", asked, img.ConfigDigest, name, want)
		}
	}
	_, err = Options{}.Find(context.Background(), ref, &v1.Platform{OS: "linux", Architecture: "s390x"})
	if got, want := advice.Of(err), "--platform is one of: linux/amd64, linux/amd64/v4, linux/arm/v5, linux/arm/v6, linux/arm64"; !errors.Is(err, pull.ErrPlatform) || got != want {
		t.Errorf("for s390x: %v, advice %q; want %q", err, got, want)
	}
}

func TestAnIndexMaySayLittle(t *testing.T) {
	address := testenv.Registry(t, nil)
	mine, other := v1.Platform{OS: "linux", Architecture: "x86_64"}, v1.Platform{OS: "linux", Architecture: "s390x"}
	if runtime.GOARCH == "arm64" {
		mine.Architecture = "aarch64"
	}
	img := imageFor(t, mine)
	silent := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: imageFor(t, other)}, mutate.IndexAddendum{Add: img})
	artifact := mutate.ConfigMediaType(mutate.MediaType(testenv.Image(t), types.OCIManifestSchema1), "application/vnd.oci.empty.v1+json")
	for what, tt := range map[string]struct {
		index v1.ImageIndex
		says  string // "": it is found
	}{
		"no platforms":                {silent, ""},
		"an index in it":              {mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: silent}), ""},
		"an index in it, for us":      {mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: silent, Descriptor: v1.Descriptor{Platform: &mine}}), ""},
		"an index in it, for another": {mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: silent, Descriptor: v1.Descriptor{Platform: &other}}), "it has no image for any platform"},
		"an artifact before it":       {mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: artifact}, mutate.IndexAddendum{Add: img}), ""},
		"only an artifact":            {mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: artifact}), "it has no image for any platform"},
		"nothing":                     {empty.Index, "it has no image for any platform"},
		"another platform only":       {mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: imageFor(t, other)}), "--platform is one of: linux/s390x"},
	} {
		testenv.PushIndex(t, tt.index, address+"/index")
		ref, err := pull.ParseReference(address + "/index")
		if err != nil {
			t.Fatal(err)
		}
		found, err := Options{}.Find(context.Background(), ref, nil)
		if tt.says != "" {
			if !errors.Is(err, pull.ErrPlatform) || advice.Of(err) != tt.says {
				t.Errorf("%s: %v, advice %q; want %q", what, err, advice.Of(err), tt.says)
			}
			continue
		}
		if name, nameErr := img.ConfigName(); err != nil || nameErr != nil || found.ConfigDigest != name {
			t.Errorf("%s: %v, %v; want the image for this machine", what, err, nameErr)
		}
	}
}
