package pull

import (
	"errors"
	"strings"
	"testing"

	"gocker/step01-pull/shared/advice"
)

const digest = "sha256:59bf1c3509f33515622619af21ed55bbe26d24913cedbca106468a5fb37a50c3"

func TestReferencesHaveDockersDefaults(t *testing.T) {
	for _, tt := range []struct{ typed, name, tag, full, registry, short string }{
		{"alpine", "alpine", "latest", "index.docker.io/library/alpine:latest", "index.docker.io", "alpine:latest"},
		{"ubuntu:18.04", "ubuntu", "18.04", "index.docker.io/library/ubuntu:18.04", "index.docker.io", "ubuntu:18.04"},
		{"docker.io/alpine", "alpine", "latest", "index.docker.io/library/alpine:latest", "index.docker.io", "alpine:latest"},
		{"index.docker.io/library/alpine", "alpine", "latest", "index.docker.io/library/alpine:latest", "index.docker.io", "alpine:latest"},
		{"library/owner/app", "library/owner/app", "latest", "index.docker.io/library/owner/app:latest", "index.docker.io", "library/owner/app:latest"},
		{"docker.io/a.example/b", "index.docker.io/a.example/b", "latest", "index.docker.io/a.example/b:latest", "index.docker.io", "index.docker.io/a.example/b:latest"},
		{"owner/app", "owner/app", "latest", "index.docker.io/owner/app:latest", "index.docker.io", "owner/app:latest"},
		{"ghcr.io/owner/app:v1", "ghcr.io/owner/app", "v1", "ghcr.io/owner/app:v1", "ghcr.io", "ghcr.io/owner/app:v1"},
		{"localhost/x", "localhost/x", "latest", "localhost/x:latest", "localhost", "localhost/x:latest"},
		{"127.0.0.1:5000/debian", "127.0.0.1:5000/debian", "latest", "127.0.0.1:5000/debian:latest", "127.0.0.1:5000", "127.0.0.1:5000/debian:latest"},
		{"[::1]:5000/a/b/c:Tag_1", "[::1]:5000/a/b/c", "Tag_1", "[::1]:5000/a/b/c:Tag_1", "[::1]:5000", "[::1]:5000/a/b/c:Tag_1"},
		{"alpine@" + digest, "alpine", digest, "index.docker.io/library/alpine@" + digest, "index.docker.io", "alpine@" + digest},
		{"alpine:3.14@" + digest, "alpine", digest, "index.docker.io/library/alpine@" + digest, "index.docker.io", "alpine@" + digest},
		{"my--app__x.y-z", "my--app__x.y-z", "latest", "index.docker.io/library/my--app__x.y-z:latest", "index.docker.io", "my--app__x.y-z:latest"},
	} {
		ref, err := ParseReference(tt.typed)
		if err != nil {
			t.Errorf("ParseReference(%q) = %v", tt.typed, err)
			continue
		}
		got := []string{ref.Name, ref.Tag, ref.Full(), ref.Registry(), ref.String()}
		want := []string{tt.name, tt.tag, tt.full, tt.registry, tt.short}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("ParseReference(%q): Name, Tag, Full, Registry, String are %q, want %q", tt.typed, got, want)
				break
			}
		}
		if again, err := ParseReference(ref.String()); err != nil || again.Full() != ref.Full() {
			t.Errorf("ParseReference(%q) = %q, %v; want the same as of %q", ref, again.Full(), err, tt.typed)
		}
	}
}

func TestOnlyTheSampleItselfIsTheSample(t *testing.T) {
	for typed, want := range map[string]bool{
		"sample": true, "sample:latest": true, "docker.io/library/sample": true,
		"sample:v1": false, "localhost/sample": false, "owner/sample": false, "sample@" + digest: false,
	} {
		ref, err := ParseReference(typed)
		if err != nil || ref.IsSample() != want {
			t.Errorf("ParseReference(%q).IsSample() = %v, %v; want %v", typed, ref.IsSample(), err, want)
		}
	}
}

func TestMalformedReferencesSayWhyAndWhatToDo(t *testing.T) {
	for _, tt := range []struct{ what, typed, reason string }{
		{"empty", "", "must be specified"},
		{"only a tag", ":latest", "must be specified"},
		{"upper case", "Alpine", "can only contain"},
		{"space", "a b", "can only contain"},
		{"line break", "alpine\n", "can only contain"},
		{"no tag after the colon", "alpine:", "must specify a tag"},
		{"space in the tag", "alpine:la test", "tag can only contain"},
		{"tag too long", "alpine:" + strings.Repeat("a", 129), "tag must be between"},
		{"two tags", "alpine:a:b", "can only contain"},
		{"name too long", strings.Repeat("a", 256), "must be between"},
		{"scheme", "https://alpine", "URL scheme"},
		{"port that is no number", "host:port/x", "RFC 3986"},
		{"digest cut short", "alpine@sha256:59bf", "digest"},
		{"digest of another kind", "alpine@md5:d41d8cd98f00b204e9800998ecf8427e", "digest"},
		{"no digest after the at sign", "alpine@", "digest"},
		{"leading slash", "/alpine", "between slashes"},
		{"trailing slash", "alpine/", "between slashes"},
		{"two slashes", "a//b", "between slashes"},
		{"dotdot", "..", "between slashes"},
		{"dotdot inside", "a/../b", "between slashes"},
		{"like a flag", "-x", "between slashes"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			ref, err := ParseReference(tt.typed)
			if !errors.Is(err, ErrReference) || !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("ParseReference(%q) = %q, %v; want ErrReference with %q", tt.typed, ref, err, tt.reason)
			}
			if advice.Of(err) == "" {
				t.Errorf("ParseReference(%q) = %v has no advice", tt.typed, err)
			}
		})
	}
}

func TestReferenceCanBeWrittenDown(t *testing.T) {
	for _, s := range []string{"alpine", "127.0.0.1:5000/a/b:c", "alpine@sha256:" + strings.Repeat("a", 64)} {
		ref, err := ParseReference(s)
		if err != nil {
			t.Fatal(err)
		}
		text, err := ref.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back Reference
		if err := back.UnmarshalText(text); err != nil || back.Full() != ref.Full() {
			t.Errorf("%s comes back as %v, %v", s, back, err)
		}
	}
}
