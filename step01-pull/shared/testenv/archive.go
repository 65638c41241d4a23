package testenv

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Epoch is the time of all entries that Tar is not told another for.
var Epoch = time.Date(2021, 11, 24, 20, 19, 40, 0, time.UTC)

// An Entry is one entry of a tar archive.
type Entry struct {
	tar.Header
	Content string
	Hole    int // so many zeros stand before Content and after it, and only the header says so: a sparse file
}

// File is an entry for a file with mode 0644.
func File(name, content string) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, Content: content}
}

// Dir is an entry for a folder with mode 0755.
func Dir(name string) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755}}
}

// Symlink is an entry for a symbolic link.
func Symlink(name, target string) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}}
}

// Link is an entry for a hard link.
func Link(name, target string) Entry {
	return Entry{Header: tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}}
}

// Sparse is an entry for a file of hole zeros, content, and hole zeros again, as tar -S of GNU's older format has it.
func Sparse(name, content string, hole int) Entry {
	e := File(name, content)
	e.Format, e.Hole = tar.FormatGNU, hole
	return e
}

// Tar writes a tar archive. Entries are in PAX format where they do not say another.
func Tar(t testing.TB, entries ...Entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		e.Size = int64(len(e.Content))
		if e.Typeflag != tar.TypeXGlobalHeader {
			if e.ModTime.IsZero() {
				e.ModTime = Epoch
			}
			if e.Format == tar.FormatUnknown {
				e.Format = tar.FormatPAX
			}
		}
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatalf("header of %q: %v", e.Name, err)
		}
		if e.Hole > 0 {
			makeSparse(buf.Bytes()[buf.Len()-512:], len(e.Content), e.Hole)
		}
		if _, err := io.WriteString(w, e.Content); err != nil {
			t.Fatalf("content of %q: %v", e.Name, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// makeSparse turns the header of a plain file into one with a map of where its pieces belong; the last is empty and
// stands at the file's end. Package tar reads such headers and does not write them. See tar(5), "GNU tar archives".
func makeSparse(header []byte, size, hole int) {
	number := func(at, n int) { copy(header[at:], fmt.Sprintf("%011o\x00", n)) }
	end := hole + size + hole
	header[156] = tar.TypeGNUSparse
	number(386, hole)
	number(386+12, size)
	number(386+24, end)
	number(386+36, 0)
	number(483, end)
	copy(header[148:], "        ") // the checksum is computed with blanks in its place
	sum := 0
	for _, b := range header {
		sum += int(b)
	}
	copy(header[148:], fmt.Sprintf("%06o\x00 ", sum))
}

// Image is an image for this machine, of tar archives, the lowest layer first.
func Image(t testing.TB, layers ...[]byte) v1.Image {
	t.Helper()
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH, RootFS: v1.RootFS{Type: "layers"}})
	for _, plain := range layers {
		if err != nil {
			break
		}
		var layer v1.Layer
		layer, err = tarball.LayerFromOpener(func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(plain)), nil
		}, tarball.WithCompressedCaching)
		if err == nil {
			img, err = mutate.AppendLayers(img, layer)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// ID is the {image} of an image.
func ID(t testing.TB, img v1.Image) string {
	t.Helper()
	name, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	return name.Hex[:12]
}

// Registry serves an empty registry on the loopback interface until the test ends, and returns its "host:port".
// wrap may stand between it and its clients; nil: nothing does.
func Registry(t testing.TB, wrap func(http.Handler) http.Handler) string {
	t.Helper()
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	if wrap != nil {
		handler = wrap(handler)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// Push sends an image to a registry.
func Push(t testing.TB, img v1.Image, reference string) {
	t.Helper()
	if err := crane.Push(img, reference); err != nil {
		t.Fatalf("push %s: %v", reference, err)
	}
}

// PushIndex sends an image for several platforms to a registry.
func PushIndex(t testing.TB, index v1.ImageIndex, reference string) {
	t.Helper()
	ref, err := name.ParseReference(reference)
	if err == nil {
		err = remote.WriteIndex(ref, index)
	}
	if err != nil {
		t.Fatalf("push %s: %v", reference, err)
	}
}

// Names lists the entries of a tar archive.
func Names(t testing.TB, archive io.Reader) (names []string) {
	t.Helper()
	for r := tar.NewReader(archive); ; {
		header, err := r.Next()
		if err == io.EOF {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name)
	}
}

// Ls lists what is in a folder; one that is not there has nothing in it.
func Ls(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Tree describes everything below a folder, a line a name, to compare it with what it was before or should be.
// Times and owners are not in it.
func Tree(t testing.TB, dir string) string {
	t.Helper()
	var tree strings.Builder
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		what := ""
		switch {
		case info.Mode().IsRegular():
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if what = fmt.Sprintf(" %q", content); len(content) > 60 {
				what = fmt.Sprintf(" %d bytes, %x", len(content), sha256.Sum256(content))
			}
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			what = " -> " + target
		}
		fmt.Fprintf(&tree, "%s %s%s\n", name, info.Mode(), what)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree.String()
}
