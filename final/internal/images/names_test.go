//go:build linux

package images

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/testenv"
)

func parse(t testing.TB, s string) pull.Reference {
	t.Helper()
	ref, err := pull.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func TestWhatPodmanHasBuiltIsFoundByItsShortName(t *testing.T) {
	testenv.NeedRoot(t)
	layer := string(testenv.Tar(t, testenv.File("a", "1")))
	f := files{}
	built, other := f.image(t, "built", runtime.GOARCH, layer), f.image(t, "other", runtime.GOARCH, layer)
	s := load(t, maps.Clone(f).index(t, named(built, refName, "localhost/app:v1"), named(built, refName, "localhost/both:v1"), named(other, refName, "both:v1")))
	for name, want := range map[string]string{"app:v1": "built", "localhost/app:v1": "built", "both:v1": "other", "localhost/both:v1": "built"} {
		img, err := s.Get(t.Context(), parse(t, name), "never", "", nil)
		if got := fmt.Sprint(img.Config.Config.Labels["is"]); err != nil || got != want {
			t.Errorf("%s is %s, %v; want %s", name, got, err, want)
		}
	}
	if _, err := s.Lookup(parse(t, "app:v2")); err == nil {
		t.Error("app:v2 is found, which nobody has built")
	}
	for _, pattern := range []string{"app", "app:v1", "localhost/app"} {
		if list, err := s.List([]string{"reference=" + pattern}, false); err != nil || len(list) != 1 {
			t.Errorf("List of %s = %v, %v; want one", pattern, list, err)
		}
	}
	var saved bytes.Buffer
	if err := s.Save(&saved, []pull.Reference{parse(t, "app:v1")}, true); err != nil || !strings.Contains(saved.String(), `"RepoTags":["localhost/app:v1"]`) {
		t.Errorf("Save = %v, and it does not have the name localhost/app:v1", err)
	}
	for _, name := range []string{"app:v1", "both:v1", "both:v1"} {
		untagged, _, err := s.Remove(parse(t, name), false)
		if err != nil || len(untagged) != 1 {
			t.Errorf("Remove(%s) = %q, %v; want one name", name, untagged, err)
		}
	}
	if names, err := s.Names(); err != nil || len(names) > 0 {
		t.Errorf("left are %v, %v", names, err)
	}
}

func TestAnImageIsFoundByItsDigestWithoutARegistry(t *testing.T) {
	testenv.NeedRoot(t)
	asked := 0
	address := testenv.Registry(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked++; h.ServeHTTP(w, r) })
	})
	img := testenv.Image(t, testenv.Tar(t, testenv.File("a", "1")))
	testenv.Push(t, img, address+"/app:v1")
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	s := Store{Dirs: testenv.Dirs(t)}
	var watched []string
	s.Watch = func(ref pull.Reference) (func(v1.Descriptor, int64), func(Pulled, error)) {
		watched = append(watched, ref.String())
		return func(v1.Descriptor, int64) {}, func(got Pulled, err error) { watched = append(watched, fmt.Sprint(got.Origin.Digest, " ", err)) }
	}
	say := func(string, ...any) {}
	if _, err := s.Get(t.Context(), parse(t, address+"/app:v1"), "", "", say); err != nil {
		t.Fatal(err)
	}
	if want := []string{address + "/app:v1", digest.String() + " <nil>"}; !slices.Equal(watched, want) {
		t.Errorf("the watcher of the pull sees %q, want %q", watched, want)
	}
	asked = 0
	if _, err := s.Get(t.Context(), parse(t, address+"/app@"+digest.String()), "", "", say); err != nil || asked > 0 {
		t.Errorf("Get by digest: %v, and the registry was asked %d times", err, asked)
	}
}
