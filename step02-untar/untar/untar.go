// Package untar unpacks tar archives that nobody vouches for.
//
//	err := untar.Extract("tmp/c059bfaa849c/package.tar", "tmp/c059bfaa849c")
//
// A tar archive is a list of entries: a name, a type, a mode, an owner, times, and for files the content. Names are
// just text, written by somebody else: "../../etc/passwd" is one, and so is "a/passwd" after an entry that made "a"
// a symbolic link to /etc. github.com/mholt/archiver reads the archive, whatever compressed it; we write the files
// ourselves, through an os.Root, which refuses every path that leads out of the folder, also one through a symbolic
// link made a moment ago. docs/step02-untar.md shows the attack on the library's own extraction (CVE-2024-0406).
//
// Package budget limits how much of the machine an archive may use.
//
// See tar(5), pax(1) for the extended headers, and https://pkg.go.dev/os#Root.
package untar

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/mholt/archiver/v3"

	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step02-untar/budget"
	"gocker/step02-untar/decompress"
)

// These errors say what is wrong with an archive.
var (
	ErrEscapes = errors.New("leads out of the folder that it is unpacked to")
	ErrArchive = errors.New("not a tar archive, or a damaged one")
)

// Extract unpacks the archive into the folder to, which must exist. An entry replaces what stood there under the same
// name. On an error, the folder is as it was before.
func Extract(archive, to string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	// Unpack beside the real names, so that half an archive is never taken for a whole one.
	partial, err := dirs.NewPartial(to)
	if err != nil {
		return err
	}
	defer partial.Discard()
	if err := Unpack(f, partial.Path, budget.Limits{}); err != nil {
		return fmt.Errorf("unpack %q: %w", archive, err)
	}
	entries, err := os.ReadDir(partial.Path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == filepath.Base(archive) {
			return fmt.Errorf("unpack %q: %w: entry %q has the archive's own name", archive, ErrArchive, e.Name())
		}
	}
	for _, e := range entries {
		final := filepath.Join(to, e.Name())
		if err := os.RemoveAll(final); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(partial.Path, e.Name()), final); err != nil {
			return err
		}
	}
	return nil
}

// Unpack writes every entry of an archive, compressed or not, below the folder to. On an error, some may be there.
func Unpack(archive io.Reader, to string, limits budget.Limits) error {
	left := limits.Budget()
	decompressed := decompress.Reader(left.In(archive))
	defer decompressed.Close()
	plain := left.Out(decompressed)
	w, err := NewWriter(to)
	if err != nil {
		return err
	}
	defer w.Close()
	w.MakeParent = func(name string) error {
		if err := left.Entry(&tar.Header{}); err != nil {
			return err
		}
		return blame(w.Root.Mkdir(name, 0o755))
	}
	end := &Ending{R: plain}
	entries := 0
	err = Each(end, func(header *tar.Header, content io.Reader) error {
		entries++
		if err := left.Entry(header); err != nil {
			return err
		}
		isLink := header.Typeflag == tar.TypeSymlink || header.Typeflag == tar.TypeLink
		// In a layer names may be absolute, and links lead anywhere: they are followed inside the container. A package
		// has no use for either. This refuses the attack of docs/step02-untar.md at its first entry, a -> /tmp/outside.
		if path.IsAbs(header.Name) || isLink && path.IsAbs(header.Linkname) {
			return fmt.Errorf("%w: it has an absolute name", ErrEscapes)
		}
		return w.Write(header, content)
	})
	if err != nil {
		return err
	}
	if entries == 0 || !end.HasMark() {
		return damaged(fmt.Errorf("it ends after %d entries, without an end mark", entries))
	}
	// The compression has its checksum at the very end.
	if _, err := io.Copy(io.Discard, plain); err != nil {
		return damaged(err)
	}
	if err := w.linksStayInside(); err != nil {
		return err
	}
	return w.Finish()
}

// An Ending reads an archive, and counts the zeros at the end of what was read so far.
type Ending struct {
	R     io.Reader
	zeros int
}

// HasMark tells whether the archive was not cut short. To the library one ends where its bytes do; whole ones end in two
// blocks of zeros.
func (e *Ending) HasMark() bool { return e.zeros >= 2*512 }

func (e *Ending) Read(p []byte) (int, error) {
	n, err := e.R.Read(p)
	rest := len(bytes.TrimRight(p[:n], "\x00"))
	if rest > 0 {
		e.zeros = 0
	}
	e.zeros += n - rest
	return n, err
}

func damaged(err error) error {
	if errors.Is(err, budget.ErrLimit) {
		return err
	}
	return advice.Add(fmt.Errorf("%w: %w", ErrArchive, err), "fetch it again")
}

// Each calls do for every entry of a tar archive that is not compressed; an archive may have none. An error of do ends
// it and is returned with the entry's name.
func Each(archive io.Reader, do func(header *tar.Header, content io.Reader) error) error {
	t := archiver.NewTar()
	if err := t.Open(archive, 0); err != nil {
		return err
	}
	defer t.Close()
	for n := 0; ; n++ {
		f, err := t.Read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return damaged(fmt.Errorf("after %d entries: %w", n, err))
		}
		header, ok := f.Header.(*tar.Header)
		if !ok {
			return fmt.Errorf("%w: entry %d has no tar header", ErrArchive, n)
		}
		if header.Typeflag == tar.TypeXGlobalHeader {
			continue // git archive writes one: a comment on the whole archive, no file
		}
		content := &entryReader{r: f}
		if err := do(header, content); err != nil {
			if content.err != nil {
				err = damaged(content.err)
			}
			return fmt.Errorf("entry %q: %w", header.Name, err)
		}
	}
}

// entryReader remembers whether it was reading the archive that failed, not writing the file.
type entryReader struct {
	r   io.Reader
	err error
}

func (e *entryReader) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if err != nil && err != io.EOF {
		e.err = err
	}
	return n, err
}

// Package unpacks {root}/tmp/{image}/package.tar into its own folder, whose lock the caller holds.
func Package(d dirs.Dirs, image string) error { return Extract(d.PackageTar(image), d.Tmp(image)) }

// Clean turns an entry's name into one that os.Root takes: relative to the folder, "." for the folder itself.
// Layers of some builders have absolute names; inside the folder "/etc" and "etc" are the same.
func Clean(name string) (string, error) {
	if strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("%w: the name has a NUL byte", ErrArchive)
	}
	name = strings.TrimLeft(name, "/")
	if name = path.Clean(name); !filepath.IsLocal(name) {
		return "", ErrEscapes
	}
	return name, nil
}
