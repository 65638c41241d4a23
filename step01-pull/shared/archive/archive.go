// Package archive makes tar archives and images of them: those that the code of the steps is held to, in its tests and
// where a learner's own program is checked.
package archive

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"runtime"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
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
func Tar(entries ...Entry) ([]byte, error) {
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
			return nil, fmt.Errorf("header of %q: %w", e.Name, err)
		}
		if e.Hole > 0 {
			makeSparse(buf.Bytes()[buf.Len()-512:], len(e.Content), e.Hole)
		}
		if _, err := io.WriteString(w, e.Content); err != nil {
			return nil, fmt.Errorf("content of %q: %w", e.Name, err)
		}
	}
	err := w.Close()
	return buf.Bytes(), err
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
func Image(layers ...[]byte) (v1.Image, error) {
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
	return img, err
}
