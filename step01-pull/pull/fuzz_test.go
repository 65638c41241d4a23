package pull

import (
	"errors"
	"strings"
	"testing"
	"unicode"
)

func FuzzParseReference(f *testing.F) {
	for _, seed := range []string{
		"alpine", "ubuntu:18.04", "ghcr.io/owner/app:v1", "127.0.0.1:5000/debian", "[::1]:5000/a", "localhost/a", "a/b/c",
		"alpine@sha256:" + strings.Repeat("5", 64), "alpine:3@sha256:" + strings.Repeat("5", 64), "sample", "../x", "a..b", "A", "",
		"docker.io/library/alpine:latest", "library/a/b", "docker.io/a.b/c", "a:\x1b[2J", "a b", "sha256:" + strings.Repeat("5", 64), strings.Repeat("5", 64), "xn--a.example/b",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := ParseReference(s)
		if err != nil {
			if !errors.Is(err, ErrReference) {
				t.Errorf("ParseReference(%q) = %v, want ErrReference", s, err)
			}
			return
		}
		// The shortest spelling and the longest mean the same.
		for _, spelling := range []string{ref.String(), ref.Full()} {
			again, err := ParseReference(spelling)
			if err != nil || again.String() != ref.String() || again.Full() != ref.Full() {
				t.Errorf("ParseReference(%q) is %q, and of that %q, %v; want the same", s, ref, again, err)
			}
		}
		// It becomes a part of addresses, and is printed.
		for _, part := range strings.Split(ref.Full(), "/") {
			if part == "" || part == "." || part == ".." || strings.ContainsFunc(part, func(r rune) bool { return r == '\\' || unicode.IsSpace(r) || !unicode.IsPrint(r) }) {
				t.Errorf("ParseReference(%q) has the part %q", s, part)
			}
		}
	})
}
