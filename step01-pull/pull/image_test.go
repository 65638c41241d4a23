package pull

import (
	"context"
	"errors"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/testenv"
)

func parse(t testing.TB, s string) Reference {
	t.Helper()
	ref, err := ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// pushIndex pushes one name for images of several architectures, whose only file says which.
func pushIndex(t *testing.T, reference string, platforms ...v1.Platform) {
	t.Helper()
	index := v1.ImageIndex(empty.Index)
	for _, p := range platforms {
		img := testenv.Image(t, testenv.Tar(t, testenv.File("arch", p.String())))
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		config = config.DeepCopy()
		config.Architecture, config.Variant = p.Architecture, p.Variant
		if img, err = mutate.ConfigFile(img, config); err != nil {
			t.Fatal(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &p}})
	}
	testenv.PushIndex(t, index, reference)
}

func TestPlatformPicksFromAnIndex(t *testing.T) {
	name := testenv.Registry(t, nil) + "/many"
	arm := v1.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
	pushIndex(t, name, v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, arm, v1.Platform{OS: "linux", Architecture: "s390x"})
	for _, tt := range []struct {
		platform *v1.Platform
		want     string
	}{{HostPlatform(), runtime.GOARCH}, {&arm, "arm"}, {&v1.Platform{OS: "linux", Architecture: "s390x"}, "s390x"}} {
		img, err := Image(t.Context(), parse(t, name), tt.platform)
		if err != nil {
			t.Errorf("Image(%s) = %v", tt.platform, err)
			continue
		}
		if config, err := img.ConfigFile(); err != nil || config.Architecture != tt.want {
			t.Errorf("Image(%s) is for %q, %v; want %q", tt.platform, config.Architecture, err, tt.want)
		}
	}
	_, err := Image(t.Context(), parse(t, name), &v1.Platform{OS: "linux", Architecture: "mips"})
	if got, want := advice.Of(err), "--platform is one of: linux/"+runtime.GOARCH+", linux/arm/v7, linux/s390x"; !errors.Is(err, ErrPlatform) || got != want {
		t.Errorf("Image(linux/mips) = %v, advice %q; want ErrPlatform, %q", err, got, want)
	}
}

func TestImageSaysWhatIsWrong(t *testing.T) {
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	serve := func(h http.Handler) string { return testenv.Registry(t, func(http.Handler) http.Handler { return h }) }
	good := testenv.Registry(t, nil)
	testenv.Push(t, testenv.Image(t), good+"/app:v1")
	pushIndex(t, good+"/other", v1.Platform{OS: "linux", Architecture: "mips"})
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := nobody.Addr().String()
	nobody.Close()

	mips := &v1.Platform{OS: "linux", Architecture: "mips"}
	for _, tt := range []struct {
		what, reference string
		platform        *v1.Platform
		want            error
	}{
		{"no such image", good + "/nothing", HostPlatform(), ErrNotFound},
		{"no such tag", good + "/app:v2", HostPlatform(), ErrNotFound},
		{"no such digest", good + "/app@" + digest, HostPlatform(), ErrNotFound},
		{"unauthorized", serve(status(http.StatusUnauthorized)) + "/app", HostPlatform(), ErrUnauthorized},
		{"forbidden", serve(status(http.StatusForbidden)) + "/app", HostPlatform(), ErrUnauthorized},
		{"connection refused", refused + "/app", HostPlatform(), ErrUnreachable},
		{"unknown host", "registry.invalid/app", HostPlatform(), ErrUnreachable},
		{"not in the index", good + "/other", HostPlatform(), ErrPlatform},
		{"one image, for another platform", good + "/app:v1", mips, ErrPlatform},
		{"the sample, for another platform", Sample, mips, ErrPlatform},
	} {
		t.Run(tt.what, func(t *testing.T) {
			_, err := Image(t.Context(), parse(t, tt.reference), tt.platform)
			if !errors.Is(err, tt.want) {
				t.Errorf("Image(%s) = %v, want %v", tt.reference, err, tt.want)
			}
			if advice.Of(err) == "" {
				t.Errorf("Image(%s) = %v has no advice", tt.reference, err)
			}
		})
	}
}

func TestImageEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped by the user")
	name := testenv.Registry(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { cancel(stopped) })
	}) + "/app"
	if _, err := Image(ctx, parse(t, name), HostPlatform()); !errors.Is(err, stopped) || strings.Contains(err.Error(), "cannot reach") {
		t.Errorf("Image = %v, want only that it was stopped", err)
	}
}

func TestTheAdviceForAnotherPlatformCanBeFollowed(t *testing.T) {
	mips := &v1.Platform{OS: "linux", Architecture: "mips"}
	_, err := Image(t.Context(), parse(t, Sample), mips)
	if got := advice.Of(err); strings.Contains(got, "--platform") || !strings.Contains(got, "an image of a registry may be for linux/mips") {
		t.Errorf("Image(sample, linux/mips) = %v, advice %q; want another image", err, got)
	}
}

func TestAMirrorIsAskedInPlaceOfTheRegistry(t *testing.T) {
	mirror := testenv.Registry(t, nil)
	img := testenv.Image(t)
	testenv.Push(t, img, mirror+"/library/app:v1")
	want, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"app:v1", "app@" + want.String()} {
		ref := parse(t, name)
		ref.Mirror = mirror
		got, err := Image(t.Context(), ref, HostPlatform())
		if err != nil {
			t.Errorf("Image(%s) = %v", name, err)
			continue
		}
		if digest, err := got.Digest(); err != nil || digest != want {
			t.Errorf("Image(%s) is %s, %v; want %s", name, digest, err, want)
		}
		if ref.String() != name {
			t.Errorf("with a mirror the name is %s, want %s", ref, name)
		}
	}
	ref := parse(t, "nothing")
	ref.Mirror = mirror
	if _, err := Image(t.Context(), ref, HostPlatform()); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), mirror) {
		t.Errorf("Image(nothing) = %v, want ErrNotFound at %s", err, mirror)
	}
}
