//go:build linux

package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/testenv"
	"gocker/step02-untar/untar"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/local"
	"gocker/step03-layers/merged"
	"gocker/step03-layers/road"
)

var (
	file, dir, link = testenv.File, testenv.Dir, testenv.Link
)

func parse(t testing.TB, s string) pull.Reference {
	t.Helper()
	ref, err := pull.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

// add goes the way of steps 1 to 3.
func add(t testing.TB, d dirs.Dirs, name string, img v1.Image) layers.Image {
	t.Helper()
	image, lock, err := pull.Save(d, parse(t, name), img, pull.Newer)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := untar.Package(d, image); err != nil {
		t.Fatal(err)
	}
	added, err := road.Add(t.Context(), d, parse(t, name), image)
	if err != nil {
		t.Fatal(err)
	}
	return added
}

// A memory is a layer that arrives when its gate opens; atEnd is closed once it has been read to its end.
type memory struct {
	io.Reader
	content     []byte
	gate, atEnd chan struct{}
}

func newMemory(content []byte) *memory {
	return &memory{Reader: bytes.NewReader(content), content: content, gate: make(chan struct{}), atEnd: make(chan struct{})}
}

func (m *memory) Read(p []byte) (int, error) {
	<-m.gate
	n, err := m.Reader.Read(p)
	if err == io.EOF && m.atEnd != nil {
		close(m.atEnd)
		m.atEnd = nil
	}
	return n, err
}

func (m *memory) Close() error           { return nil }
func (m *memory) Link(name string) error { return os.WriteFile(name, m.content, 0o644) }

// incoming is an image of layers that are not compressed.
func incoming(t testing.TB, all ...*memory) layers.Source {
	t.Helper()
	var in layers.Source
	config := `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["`
	var diffIDs []string
	for _, l := range all {
		digest := fmt.Sprintf("sha256:%x", sha256.Sum256(l.content))
		diffIDs = append(diffIDs, digest)
		in.Manifest.Layers = append(in.Manifest.Layers, strings.TrimPrefix(digest, "sha256:")+".tar")
		in.Blobs = append(in.Blobs, layers.Blob{Digest: digest, Open: func(context.Context) (layers.Stream, error) { return l, nil }})
	}
	in.Config = []byte(config + strings.Join(diffIDs, `","`) + `"]}}`)
	in.Manifest.Config = fmt.Sprintf("sha256:%x", sha256.Sum256(in.Config))
	return in
}

func TestALayerDoesNotWaitForThoseBelowUnlessItMust(t *testing.T) {
	testenv.NeedRoot(t)
	for _, tt := range []struct {
		what  string
		upper []testenv.Entry
		waits bool
	}{
		{"its folders are its own", []testenv.Entry{dir("d"), file("d/b", "2"), file("d/.wh.a", "")}, false},
		{"a folder is left out", []testenv.Entry{file("d/b", "2")}, true},
		{"a hard link leads to a layer below", []testenv.Entry{link("b", "d/a"), file("c", strings.Repeat("c", 3<<20))}, true},
	} {
		t.Run(tt.what, func(t *testing.T) {
			d := testenv.Dirs(t)
			lower := newMemory(testenv.Tar(t, dir("d"), file("d/a", "1")))
			// What follows the entry that waits is more than the pipes in between hold.
			upper := newMemory(testenv.Tar(t, append(tt.upper, file("z", strings.Repeat("z", 9<<20)))...))
			atEnd := upper.atEnd
			close(upper.gate)
			failed := make(chan error)
			go func() {
				_, err := Add(t.Context(), d, incoming(t, lower, upper), nil, parse(t, "app"))
				failed <- err
			}()
			if !tt.waits {
				<-atEnd // or this test ends by its time limit
			}
			select {
			case <-atEnd:
				if tt.waits {
					t.Error("the upper layer was read to its end before the lower one came")
				}
			default:
			}
			close(lower.gate)
			if err := <-failed; err != nil {
				t.Errorf("Add: %v", err)
			}
		})
	}
}

func TestABlobWithAnotherDigestIsRefusedForThat(t *testing.T) {
	testenv.NeedRoot(t)
	for _, tt := range []struct {
		what   string
		change func(sent []byte) []byte
	}{
		{"a wrong byte in an archive's header", func(sent []byte) []byte { return append([]byte{sent[0] ^ 1}, sent[1:]...) }},
		{"a byte too many", func(sent []byte) []byte { return append(sent, 0) }},
		{"cut short", func(sent []byte) []byte { return sent[:700] }},
	} {
		t.Run(tt.what, func(t *testing.T) {
			d := testenv.Dirs(t)
			lower := newMemory(testenv.Tar(t, file("a", "1")))
			in := incoming(t, lower)
			lower.Reader = bytes.NewReader(tt.change(bytes.Clone(lower.content)))
			close(lower.gate)
			if _, err := Add(t.Context(), d, in, nil, parse(t, "app")); !errors.Is(err, layers.ErrDigest) {
				t.Errorf("Add = %v, want ErrDigest", err)
			}
			if got := testenv.Ls(t, d.Layers()); len(got) != 0 {
				t.Errorf("layers has %q, want none", got)
			}
		})
	}
}

func TestALayerOnItsWayInIsNotRemoved(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	shared, upper := newMemory(testenv.Tar(t, file("a", "1"))), newMemory(testenv.Tar(t, file("b", "2")))
	close(shared.gate)
	if _, err := Add(t.Context(), d, incoming(t, shared), nil, parse(t, "old")); err != nil {
		t.Fatal(err)
	}
	in := incoming(t, shared, upper)
	began, failed := make(chan struct{}), make(chan error)
	in.Blobs[1].Open = func(context.Context) (layers.Stream, error) { close(began); return upper, nil }
	go func() {
		_, err := Add(t.Context(), d, in, nil, parse(t, "new"))
		failed <- err
	}()
	<-began
	if _, _, err := local.Remove(d, parse(t, "old"), false); err != nil {
		t.Error(err)
	}
	close(upper.gate)
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	image, err := local.Lookup(d, parse(t, "new"))
	if err != nil {
		t.Fatal(err)
	}
	if img, err := layers.Open(d, image); err != nil || len(img.Layers) != 2 {
		t.Errorf("Open = %d layers, %v; want 2: the one that the removed image had too", len(img.Layers), err)
	}
}

// Five pulls at once of images with one base: of the base one process's copy is kept, and on top are those of the others.
func TestLayersOfTwoPullsAtOnceFitTogether(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	base := testenv.Tar(t, file("d/a", "1"))
	var all []*layers.Incoming
	for _, top := range []string{"2", "3"} {
		lower, upper := newMemory(base), newMemory(testenv.Tar(t, file("d/b", top)))
		close(lower.gate)
		close(upper.gate)
		in, err := layers.Begin(d, incoming(t, lower, upper))
		if err != nil {
			t.Fatal(err)
		}
		defer in.Discard()
		if err := unpack(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		all = append(all, in)
	}
	for _, in := range all {
		if err := in.Keep(); err != nil {
			t.Fatal(err)
		}
		var below merged.Stack
		for _, layer := range in.Layers {
			v, err := Verify(d, layer, below)
			if err != nil || v.Wrong != nil {
				t.Errorf("Verify: %q, %v; want nothing wrong", v.Wrong, err)
			}
			v.Close()
			below = append(below, layers.Files(d, layer.ChainID))
		}
	}
}

func TestALayerOfAnOlderGockerIsAsItShouldBe(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	only := newMemory(testenv.Tar(t, file("d/a", "1"), dir("e")))
	close(only.gate)
	img, err := Add(t.Context(), d, incoming(t, only), nil, parse(t, "app"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, wrong string }{{".", "[]"}, {"d", "[]"}, {"e", `has the time`}} {
		if err := os.Chtimes(filepath.Join(layers.Files(d, img.Layers[0].ChainID), tt.name), time.Now(), time.Now()); err != nil {
			t.Fatal(err)
		}
		v, err := Verify(d, img.Layers[0], nil)
		if got := fmt.Sprint(v.Wrong); err != nil || !strings.Contains(got, tt.wrong) {
			t.Errorf("Verify, with another time of %q: %s, %v; want %s", tt.name, got, err, tt.wrong)
		}
		v.Close()
	}
}

func TestAnImageKeepsItsSummary(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	layer := newMemory(testenv.Tar(t, file("a", "12345")))
	close(layer.gate)
	img, err := Add(t.Context(), d, incoming(t, layer), map[string][]byte{"more.json": []byte("{}")}, parse(t, "app"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"summary.json", "more.json"} {
		if _, err := os.Stat(filepath.Join(d.Image(img.ID), name)); err != nil {
			t.Error(err)
		}
	}
	if s, err := Summarize(d, img.ID); err != nil || s.Size != 5 || s.Digest != img.Digest {
		t.Errorf("Summarize = %+v, %v; want 5 bytes and the digest %s", s, err, img.Digest)
	}
}
