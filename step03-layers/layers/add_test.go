//go:build linux

package layers

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gocker/step01-pull/shared/testenv"
)

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
func incoming(t testing.TB, layers ...*memory) Incoming {
	t.Helper()
	var in Incoming
	config := `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["`
	var diffIDs []string
	for _, l := range layers {
		digest := "sha256:" + sum(l.content)
		diffIDs = append(diffIDs, digest)
		in.Manifest.Layers = append(in.Manifest.Layers, strings.TrimPrefix(digest, "sha256:")+".tar")
		in.Blobs = append(in.Blobs, Blob{Digest: digest, Open: func(context.Context) (Stream, error) { return l, nil }})
	}
	in.Config = []byte(config + strings.Join(diffIDs, `","`) + `"]}}`)
	in.Manifest.Config = "sha256:" + sum(in.Config)
	return in
}

func TestALayerDoesNotWaitForThoseBelowUnlessItMust(t *testing.T) {
	testenv.NeedRoot(t)
	for _, tt := range []struct {
		what  string
		upper entries
		waits bool
	}{
		{"its folders are its own", entries{dir("d"), file("d/b", "2"), file("d/.wh.a", "")}, false},
		{"a folder is left out", entries{file("d/b", "2")}, true},
		{"a hard link leads to a layer below", entries{link("b", "d/a"), file("c", strings.Repeat("c", 3<<20))}, true},
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
				_, err := incoming(t, lower, upper).Add(context.Background(), d, parse(t, "app"))
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

func TestALayerIsKeptAsItWasSent(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	img := add(t, d, "app", small(t, "a", 2))
	for _, l := range img.Layers {
		blob := filepath.Join(d.Layer(strings.TrimPrefix(l.ChainID, "sha256:")), "blob")
		raw, err := os.ReadFile(blob)
		if err != nil {
			t.Fatal(err)
		}
		if got := "sha256:" + sum(raw); got != l.Digest || int64(len(raw)) != l.Size {
			t.Errorf("%s has %d bytes and the digest %s, want %d and %s", blob, len(raw), got, l.Size, l.Digest)
		}
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
			if _, err := in.Add(context.Background(), d, parse(t, "app")); !errors.Is(err, ErrDigest) {
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
	if _, err := incoming(t, shared).Add(context.Background(), d, parse(t, "old")); err != nil {
		t.Fatal(err)
	}
	in := incoming(t, shared, upper)
	began, failed := make(chan struct{}), make(chan error)
	in.Blobs[1].Open = func(context.Context) (Stream, error) { close(began); return upper, nil }
	go func() {
		_, err := in.Add(context.Background(), d, parse(t, "new"))
		failed <- err
	}()
	<-began
	if _, _, err := Remove(d, parse(t, "old"), false); err != nil {
		t.Error(err)
	}
	close(upper.gate)
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	image, err := Lookup(d, parse(t, "new"))
	if err != nil {
		t.Fatal(err)
	}
	if img, err := Open(d, image); err != nil || len(img.Layers) != 2 {
		t.Errorf("Open = %d layers, %v; want 2: the one that the removed image had too", len(img.Layers), err)
	}
}
