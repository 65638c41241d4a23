package testenv

import (
	"archive/tar"
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
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"gocker/step01-pull/shared/archive"
)

// Epoch is the time of all entries that Tar is not told another for.
var Epoch = archive.Epoch

// An Entry is one entry of a tar archive.
type Entry = archive.Entry

// File, Dir, Symlink, Link and Sparse make entries: see package archive.
var (
	File, Dir, Symlink, Link = archive.File, archive.Dir, archive.Symlink, archive.Link
	Sparse                   = archive.Sparse
)

// Tar writes a tar archive. Entries are in PAX format where they do not say another.
func Tar(t testing.TB, entries ...Entry) []byte {
	t.Helper()
	written, err := archive.Tar(entries...)
	if err != nil {
		t.Fatal(err)
	}
	return written
}

// Image is an image for this machine, of tar archives, the lowest layer first.
func Image(t testing.TB, layers ...[]byte) v1.Image {
	t.Helper()
	img, err := archive.Image(layers...)
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
