//go:build linux

package pull

import (
	"bytes"
	"errors"
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
	img, err := Image(t.Context(), ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	return Save(d, ref, img)
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
	_, _, err := Save(d, ref, testenv.Image(t, testenv.Tar(t, testenv.File("a", noise(2<<20)))))
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("Save = %v, want no space left on device", err)
	}
	if left := testenv.Ls(t, d.AllTmp()); len(left) > 0 {
		t.Errorf("tmp has %q, want nothing", left)
	}
}

func TestFindKnowsWhatWasSaved(t *testing.T) {
	d := testenv.Dirs(t)
	img := testenv.Image(t, testenv.Tar(t, testenv.File("a", "1")))
	hash, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	host := testenv.Registry(t, nil)
	testenv.Push(t, img, host+"/app:v1")
	for _, name := range []string{host + "/app:v1", host + "/app@" + hash.String()} {
		ref := parse(t, name)
		if image, _, err := Find(d, ref); err != nil || image != "" {
			t.Errorf("Find(%s) before Save = %q, %v; want nothing", ref, image, err)
		}
		saved, lock, err := save(t, d, name)
		if err != nil {
			t.Fatal(err)
		}
		lock.Close()
		image, lock, err := Find(d, ref)
		if err != nil || image != saved {
			t.Fatalf("Find(%s) = %q, %v; want %q", ref, image, err, saved)
		}
		if _, err := dirs.TryLock(d.Tmp(image)); !errors.Is(err, dirs.ErrLocked) {
			t.Errorf("TryLock after Find = %v, want ErrLocked", err)
		}
		lock.Close()
	}
}

// A second command waits for the first, which then unpacks the image and removes what both wanted.
func TestFindDoesNotFindWhatWasRemovedWhileItWaited(t *testing.T) {
	d := testenv.Dirs(t)
	ref := parse(t, "app")
	image, lock, err := Save(d, ref, testenv.Image(t))
	if err != nil {
		t.Fatal(err)
	}
	var waiting sync.WaitGroup
	for range 4 {
		waiting.Go(func() {
			if image, _, err := Find(d, ref); err != nil || image != "" {
				t.Errorf("Find = %q, %v; want nothing", image, err)
			}
		})
	}
	// Whether they look before or after it is gone: the answer is the same.
	if err := dirs.RemoveAll(d.Tmp(image)); err != nil {
		t.Error(err)
	}
	lock.Close()
	waiting.Wait()
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
			image, lock, err := Save(d, ref, img)
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

func TestFindOrSaveSaysThatItPulls(t *testing.T) {
	d := testenv.Dirs(t)
	var said []string
	say := func(format string, _ ...any) { said = append(said, format) }
	first, lock, err := FindOrSave(t.Context(), d, parse(t, Sample), say)
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
	second, lock, err := FindOrSave(t.Context(), d, parse(t, Sample), say)
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
	if first != second || len(said) != 1 || !strings.Contains(said[0], "pulling it, as step01-pull does") {
		t.Errorf("FindOrSave twice = %s, %s, and said %q; want one image and one word", first, second, said)
	}
	// What step 2 and 3 leave on a crash lies in a folder of its own.
	if got := testenv.Ls(t, filepath.Join(d.Tmp(first))); len(got) != 2 {
		t.Errorf("tmp/%s has %q, want package.tar and reference", first, got)
	}
}
