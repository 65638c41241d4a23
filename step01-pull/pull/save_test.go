//go:build linux

package pull

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/testenv"
)

// noise is content that gzip does not make smaller; it is the same every time.
func noise(n int) string {
	b, x := make([]byte, n), uint32(1)
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte(x)
	}
	return string(b)
}

func save(t testing.TB, d dirs.Dirs, name string) (string, *os.File, error) {
	t.Helper()
	ref := parse(t, name)
	img, err := Image(t.Context(), ref, HostPlatform())
	if err != nil {
		t.Fatal(err)
	}
	return Save(d, ref, img, Newer)
}

func TestPackageTarHasTheNamesOfToday(t *testing.T) {
	d := testenv.Dirs(t)
	name := testenv.Registry(t, nil) + "/app"
	img := testenv.Image(t, testenv.Tar(t, testenv.File("a", "1")), testenv.Tar(t, testenv.File("b", "2")))
	testenv.Push(t, img, name)
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	image, lock, err := save(t, d, name)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if want := manifest.Config.Digest.Hex[:12]; image != want {
		t.Errorf("Save's image is %q, want the first 12 digits of the config's digest, %q", image, want)
	}
	f, err := os.Open(d.PackageTar(image))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := testenv.Names(t, f)
	want := []string{manifest.Config.Digest.String(), manifest.Layers[0].Digest.Hex + ".tar.gz", manifest.Layers[1].Digest.Hex + ".tar.gz", "manifest.json"}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("package.tar has %q, want %q", got, want)
	}
}

func TestABadLayerLeavesNothing(t *testing.T) {
	img := testenv.Image(t, testenv.Tar(t, testenv.File("a", noise(200_000))))
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		what  string
		spoil func(w http.ResponseWriter, body []byte)
	}{
		{"a wrong byte", func(w http.ResponseWriter, body []byte) {
			body[len(body)/2] ^= 1
			w.Write(body)
		}},
		{"cut in the middle", func(w http.ResponseWriter, body []byte) {
			w.Header().Set("Content-Length", "200000")
			w.Write(body[:len(body)/2])
			panic(http.ErrAbortHandler)
		}},
		{"ended in the middle", func(w http.ResponseWriter, body []byte) {
			w.Write(body[:len(body)/2])
		}},
		{"an empty answer", func(http.ResponseWriter, []byte) {}},
		{"no such layer", func(w http.ResponseWriter, _ []byte) { w.WriteHeader(http.StatusNotFound) }},
	} {
		t.Run(tt.what, func(t *testing.T) {
			d := testenv.Dirs(t)
			name := testenv.Registry(t, func(registry http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, manifest.Layers[0].Digest.String()) {
						registry.ServeHTTP(w, r)
						return
					}
					answer := httptest.NewRecorder()
					registry.ServeHTTP(answer, r)
					tt.spoil(w, bytes.Clone(answer.Body.Bytes()))
				})
			}) + "/app"
			testenv.Push(t, img, name)
			if image, _, err := save(t, d, name); err == nil {
				t.Errorf("Save = %q, want an error", image)
			}
			if left := testenv.Ls(t, d.AllTmp()); len(left) > 0 {
				t.Errorf("tmp has %q, want nothing", left)
			}
		})
	}
}

func TestAFullDiskLeavesNothing(t *testing.T) {
	d := testenv.SmallDisk(t, 1<<20)
	ref := parse(t, "app")
	_, _, err := Save(d, ref, testenv.Image(t, testenv.Tar(t, testenv.File("a", noise(2<<20)))), Newer)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("Save = %v, want no space left on device", err)
	}
	if left := testenv.Ls(t, d.AllTmp()); len(left) > 0 {
		t.Errorf("tmp has %q, want nothing", left)
	}
}

func TestManyMaySaveTheSameImage(t *testing.T) {
	d := testenv.Dirs(t)
	ref, img := parse(t, "app"), testenv.Image(t, testenv.Tar(t, testenv.File("a", noise(50_000))))
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			image, lock, err := Save(d, ref, img, Newer)
			if err != nil {
				t.Errorf("Save = %v", err)
				return
			}
			defer lock.Close()
			if got := testenv.Ls(t, d.Tmp(image)); !slices.Equal(got, []string{"package.tar", "reference"}) {
				t.Errorf("tmp/%s has %q, want package.tar and reference", image, got)
			}
		})
	}
	all.Wait()
}

func TestAnArchiveOfTheOlderKindNamesLayersByV1IDs(t *testing.T) {
	d := testenv.Dirs(t)
	img := testenv.Image(t, testenv.Tar(t, testenv.File("a", "1")))
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	image, lock, err := Save(d, parse(t, "app"), img, Older)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	f, err := os.Open(d.PackageTar(image))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// See docs/layer-hashes.md: there is no layer below, so there are two spaces.
	v1ID := fmt.Sprintf("%x", sha256.Sum256([]byte(manifest.Layers[0].Digest.Hex+"  "+string(config))))
	got := testenv.Names(t, f)
	for _, want := range []string{v1ID + "/layer.tar", manifest.Config.Digest.Hex + ".json", "manifest.json", "repositories"} {
		if !slices.Contains(got, want) {
			t.Errorf("package.tar has %q, want %s", got, want)
		}
	}
}

func TestANewPackageTakesThePlaceOfWhatWasUnpackedOfAnOldOne(t *testing.T) {
	d := testenv.Dirs(t)
	img := testenv.Image(t, testenv.Tar(t, testenv.File("a", "1")))
	for range 2 {
		image, lock, err := Save(d, parse(t, "app"), img, Newer)
		if err != nil {
			t.Fatal(err)
		}
		if got := testenv.Ls(t, d.Tmp(image)); !slices.Equal(got, []string{"package.tar", "reference"}) {
			t.Errorf("tmp/%s has %q, want package.tar and reference", image, got)
		}
		if err := os.MkdirAll(filepath.Join(d.Tmp(image), "47d7af55c64c", "fs"), 0o755); err != nil {
			t.Fatal(err)
		}
		lock.Close()
	}
}
