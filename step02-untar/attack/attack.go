// Package attack has archives that must not be unpacked: each would write, read or link outside of its folder, or is no whole
// archive. The tests of package untar hold its code to them, and a learner's own program is checked with them.
package attack

import (
	"bytes"
	"os"
	"slices"
	"strings"

	"github.com/mholt/archiver/v3"

	"gocker/step01-pull/shared/archive"
)

// A Kind is what an archive tries, or what is wrong with it.
type Kind int

// Those before OwnName lead out of the folder.
const (
	Name     Kind = iota // by a name with ..
	Absolute             // by an absolute name
	Link                 // by a symbolic link alone
	Through              // by a name that goes through a symbolic link
	Swapped              // the same, where something else was before the link
	HardLink             // by a hard link

	OwnName    // it would replace the archive, where that is Package in the same folder
	Impossible // no file system can hold it
	NoArchive  // it is something else
	Cut        // the end is missing, or is not what was written
)

// Package is the name of the archive itself in the folder, for those of kind OwnName.
const Package = "package.tar"

// LedOut is a file outside of any folder that must not appear.
func LedOut() string { return os.TempDir() + "/gocker-led-out" }

// An Attack is an archive that must be refused. Beside the folder that it is unpacked to there is a folder "outside" with a
// file "secret", and in it a folder "old" with a file "file".
type Attack struct {
	What    string
	Kind    Kind
	Archive []byte
}

// All are all attacks, as archives of the entries that they are made of.
func All() (all []Attack, err error) {
	var m maker
	all = slices.Concat(m.leadOut(), m.impossible(), m.noArchives())
	return all, m.err
}

var file, dir, symlink, link = archive.File, archive.Dir, archive.Symlink, archive.Link

// A maker makes archives. Its error is the last one.
type maker struct{ err error }

func (m *maker) of(entries ...archive.Entry) []byte {
	written, err := archive.Tar(entries...)
	if err != nil {
		m.err = err
	}
	return written
}

func (m *maker) compress(with archiver.Compressor, plain []byte) []byte {
	var buf bytes.Buffer
	if err := with.Compress(bytes.NewReader(plain), &buf); err != nil {
		m.err = err
	}
	return buf.Bytes()
}

func (m *maker) gz(plain []byte) []byte { return m.compress(archiver.NewGz(), plain) }

// leadOut are those that lead out of the folder.
func (m *maker) leadOut() []Attack {
	return []Attack{
		{"dotdot", Name, m.of(file("../outside/secret", "led out\n"))},
		{"dotdot in the middle", Name, m.of(file("a/../../outside/secret", "led out\n"))},
		{"dotdot alone", Name, m.of(dir(".."))},
		{"absolute name", Absolute, m.of(file(LedOut(), ""))},
		{"absolute folder", Absolute, m.of(dir("/"))},
		{"good entries first", Name, m.of(file("a", "1"), dir("old"), file("old/file", "2"), file("../x", "3"))},
		{"symlink to outside", Link, m.of(symlink("a", "../outside"))},
		{"symlink to an absolute name", Link, m.of(symlink("a", "/etc/passwd"))},
		{"symlink to outside and a file through it", Through, m.of(symlink("a", "../../outside"), file("a/secret", "led out\n"))},
		{"absolute symlink and a file through it", Through, m.of(symlink("a", os.TempDir()), file("a/gocker-led-out", ""))},
		{"symlink to outside and a folder through it", Through, m.of(symlink("a", "../../outside"), dir("a/b"))},
		{"symlink to outside and a symlink through it", Through, m.of(symlink("a", "../../outside"), symlink("a/b", "secret"))},
		{"dotdot after a symlink", Through, m.of(dir("d/e"), symlink("a", "d/e"), file("a/../../outside/secret", "led out\n"))},
		{"two symlinks that together lead outside", Link, m.of(symlink("a", "."), dir("a/b"), symlink("a/b/c", "../../outside"))},
		{"folder swapped for a symlink to outside", Swapped, m.of(dir("a"), file("a/x", "1"), symlink("a", "../../outside"), file("a/secret", "led out\n"))},
		{"symlink swapped for one to outside", Swapped, m.of(dir("d"), symlink("a", "d"), file("a/x", "1"), symlink("a", "../../outside"), file("a/secret", "led out\n"))},
		{"hard link to outside", HardLink, m.of(link("a", "../outside/secret"))},
		{"hard link to an absolute name", HardLink, m.of(link("a", "/etc/passwd"))},
		{"hard link through a symlink to outside", HardLink, m.of(symlink("l", "../../outside"), link("a", "l/secret"))},
	}
}

// impossible are those with entries that must not be made, or that no file system can hold.
func (m *maker) impossible() []Attack {
	long := "a-name-that-only-a-PAX-record-can-hold" + strings.Repeat("-", 100)
	unknown := file("a", "")
	unknown.Typeflag = 'Z'
	return []Attack{
		{"the archive's own name", OwnName, m.of(file("package.tar", ""))},
		{"the archive's own name, spelled differently", OwnName, m.of(file("./x/../package.tar", ""))},
		{"the archive's own name, as a folder", OwnName, m.of(file("package.tar/x", ""))},
		{"the archive's own name, through a symlink", OwnName, m.of(symlink("a", "."), file("a/package.tar", ""))},
		{"the folder itself as a file", Impossible, m.of(file(".", ""))},
		{"the folder itself as a symlink", Impossible, m.of(symlink(".", "old"))},
		{"no name", Impossible, m.of(file("", ""))},
		{"NUL in a name", Impossible, bytes.Replace(m.of(file(long+"X", "")), []byte(long+"X"), []byte(long+"\x00"), 1)},
		{"a file in a file", Impossible, m.of(file("a", ""), file("a/b", ""))},
		{"a file behind a symlink to nowhere", Impossible, m.of(symlink("a", "b"), file("a/b", ""))},
		{"a file behind a symlink to itself", Impossible, m.of(symlink("a", "a"), file("a/b", ""))},
		{"hard link to nothing", Impossible, m.of(link("a", "b"))},
		{"hard link to itself", Impossible, m.of(file("a", ""), link("a", "a"))},
		{"hard link to a folder", Impossible, m.of(dir("d"), link("a", "d"))},
		{"hard link to the folder itself", Impossible, m.of(link("a", "."))},
		{"unknown type", Impossible, m.of(unknown)},
		{"name longer than a file system has", Impossible, m.of(file(strings.Repeat("a", 300), ""))},
	}
}

// noArchives are those that are something else, or whose end is missing.
func (m *maker) noArchives() []Attack {
	whole := m.of(file("a", strings.Repeat("a", 1000)), dir("d"), file("d/b", "b"))
	return []Attack{
		{"empty file", NoArchive, nil},
		{"no entries", NoArchive, m.of()},
		{"text", NoArchive, []byte(strings.Repeat("this is no archive\n", 100))},
		{"short text", NoArchive, []byte("no")},
		{"gzip of text", NoArchive, m.gz([]byte("this is no archive\n"))},
		{"only the magic of gzip", NoArchive, []byte("\x1f\x8b")},
		{"only the magic of zstd", NoArchive, []byte("\x28\xb5\x2f\xfd")},
		{"only the magic of xz", NoArchive, []byte("\xfd7zXZ\x00")},
		{"only the magic of bzip2", NoArchive, []byte("BZh91AY&SY")},
		{"cut in a header", Cut, whole[:300]},
		{"cut in a file", Cut, whole[:512+700]},
		{"cut in a file's padding", Cut, whole[:512+1010]},
		{"cut between two entries", Cut, whole[:512+1024]},
		{"cut before the end mark", Cut, whole[:len(whole)-1024]},
		{"cut in the end mark", Cut, whole[:len(whole)-512]},
		{"gzip cut in its header", Cut, m.gz(whole)[:5]},
		{"gzip cut in the middle", Cut, m.gz(whole)[:len(m.gz(whole))/2]},
		{"gzip cut in its checksum", Cut, m.gz(whole)[:len(m.gz(whole))-5]},
		{"gzip with a wrong checksum", Cut, append(m.gz(whole)[:len(m.gz(whole))-8], "12345678"...)},
		{"xz cut in the middle", Cut, m.compress(archiver.NewXz(), whole)[:120]},
		{"zstd cut in the middle", Cut, m.compress(archiver.NewZstd(), whole)[:60]},
		{"bzip2 cut in the middle", Cut, m.compress(archiver.NewBz2(), whole)[:60]},
	}
}
