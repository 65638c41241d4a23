// Package attack has archives that must not be unpacked: each would write, read or link outside of its folder, or is no whole
// archive. The tests of package untar hold its code to them, and a learner's own program is checked with them.
package attack

import (
	"bytes"
	"os"
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
	file, dir, symlink, link := archive.File, archive.Dir, archive.Symlink, archive.Link
	typed := func(e archive.Entry, typ byte) archive.Entry { e.Typeflag = typ; return e }
	of := func(entries ...archive.Entry) []byte {
		written, wrong := archive.Tar(entries...)
		if wrong != nil {
			err = wrong
		}
		return written
	}
	compress := func(with archiver.Compressor, plain []byte) []byte {
		var buf bytes.Buffer
		if wrong := with.Compress(bytes.NewReader(plain), &buf); wrong != nil {
			err = wrong
		}
		return buf.Bytes()
	}
	gz := func(plain []byte) []byte { return compress(archiver.NewGz(), plain) }
	long := "a-name-that-only-a-PAX-record-can-hold" + strings.Repeat("-", 100)
	whole := of(file("a", strings.Repeat("a", 1000)), dir("d"), file("d/b", "b"))

	all = []Attack{
		{"dotdot", Name, of(file("../outside/secret", "led out\n"))},
		{"dotdot in the middle", Name, of(file("a/../../outside/secret", "led out\n"))},
		{"dotdot alone", Name, of(dir(".."))},
		{"absolute name", Absolute, of(file(LedOut(), ""))},
		{"absolute folder", Absolute, of(dir("/"))},
		{"good entries first", Name, of(file("a", "1"), dir("old"), file("old/file", "2"), file("../x", "3"))},
		{"symlink to outside", Link, of(symlink("a", "../outside"))},
		{"symlink to an absolute name", Link, of(symlink("a", "/etc/passwd"))},
		{"symlink to outside and a file through it", Through, of(symlink("a", "../../outside"), file("a/secret", "led out\n"))},
		{"absolute symlink and a file through it", Through, of(symlink("a", os.TempDir()), file("a/gocker-led-out", ""))},
		{"symlink to outside and a folder through it", Through, of(symlink("a", "../../outside"), dir("a/b"))},
		{"symlink to outside and a symlink through it", Through, of(symlink("a", "../../outside"), symlink("a/b", "secret"))},
		{"dotdot after a symlink", Through, of(dir("d/e"), symlink("a", "d/e"), file("a/../../outside/secret", "led out\n"))},
		{"two symlinks that together lead outside", Link, of(symlink("a", "."), dir("a/b"), symlink("a/b/c", "../../outside"))},
		{"folder swapped for a symlink to outside", Swapped, of(dir("a"), file("a/x", "1"), symlink("a", "../../outside"), file("a/secret", "led out\n"))},
		{"symlink swapped for one to outside", Swapped, of(dir("d"), symlink("a", "d"), file("a/x", "1"), symlink("a", "../../outside"), file("a/secret", "led out\n"))},
		{"hard link to outside", HardLink, of(link("a", "../outside/secret"))},
		{"hard link to an absolute name", HardLink, of(link("a", "/etc/passwd"))},
		{"hard link through a symlink to outside", HardLink, of(symlink("l", "../../outside"), link("a", "l/secret"))},
		{"the archive's own name", OwnName, of(file("package.tar", ""))},
		{"the archive's own name, spelled differently", OwnName, of(file("./x/../package.tar", ""))},
		{"the archive's own name, as a folder", OwnName, of(file("package.tar/x", ""))},
		{"the archive's own name, through a symlink", OwnName, of(symlink("a", "."), file("a/package.tar", ""))},
		{"the folder itself as a file", Impossible, of(file(".", ""))},
		{"the folder itself as a symlink", Impossible, of(symlink(".", "old"))},
		{"no name", Impossible, of(file("", ""))},
		{"NUL in a name", Impossible, bytes.Replace(of(file(long+"X", "")), []byte(long+"X"), []byte(long+"\x00"), 1)},
		{"a file in a file", Impossible, of(file("a", ""), file("a/b", ""))},
		{"a file behind a symlink to nowhere", Impossible, of(symlink("a", "b"), file("a/b", ""))},
		{"a file behind a symlink to itself", Impossible, of(symlink("a", "a"), file("a/b", ""))},
		{"hard link to nothing", Impossible, of(link("a", "b"))},
		{"hard link to itself", Impossible, of(file("a", ""), link("a", "a"))},
		{"hard link to a folder", Impossible, of(dir("d"), link("a", "d"))},
		{"hard link to the folder itself", Impossible, of(link("a", "."))},
		{"unknown type", Impossible, of(typed(file("a", ""), 'Z'))},
		{"name longer than a file system has", Impossible, of(file(strings.Repeat("a", 300), ""))},
		{"empty file", NoArchive, nil},
		{"no entries", NoArchive, of()},
		{"text", NoArchive, []byte(strings.Repeat("this is no archive\n", 100))},
		{"short text", NoArchive, []byte("no")},
		{"gzip of text", NoArchive, gz([]byte("this is no archive\n"))},
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
		{"gzip cut in its header", Cut, gz(whole)[:5]},
		{"gzip cut in the middle", Cut, gz(whole)[:len(gz(whole))/2]},
		{"gzip cut in its checksum", Cut, gz(whole)[:len(gz(whole))-5]},
		{"gzip with a wrong checksum", Cut, append(gz(whole)[:len(gz(whole))-8], "12345678"...)},
		{"xz cut in the middle", Cut, compress(archiver.NewXz(), whole)[:120]},
		{"zstd cut in the middle", Cut, compress(archiver.NewZstd(), whole)[:60]},
		{"bzip2 cut in the middle", Cut, compress(archiver.NewBz2(), whole)[:60]},
	}
	return all, err
}
