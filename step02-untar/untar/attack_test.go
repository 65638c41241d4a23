package untar

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mholt/archiver/v3"

	"gocker/step01-pull/shared/testenv"
)

var (
	file, dir, symlink, link = testenv.File, testenv.Dir, testenv.Symlink, testenv.Link
)

// house is a folder with two rooms: "to" is what an archive is unpacked to, "outside" is not its business.
func house(t testing.TB, archive []byte) (base, pkg, to string) {
	t.Helper()
	base = t.TempDir()
	to = filepath.Join(base, "to")
	for name, content := range map[string]string{
		"outside/secret": "keep out\n", "to/package.tar": string(archive), "to/old/file": "was here before\n",
	} {
		name = filepath.Join(base, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return base, filepath.Join(to, "package.tar"), to
}

func gz(t testing.TB, plain []byte) []byte { return compress(t, archiver.NewGz(), plain) }

func compress(t testing.TB, with archiver.Compressor, plain []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	if err := with.Compress(bytes.NewReader(plain), &buf); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestExtractStaysInsideItsFolder(t *testing.T) {
	of := func(entries ...testenv.Entry) []byte { return testenv.Tar(t, entries...) }
	typed := func(e testenv.Entry, typ byte) testenv.Entry { e.Typeflag = typ; return e }
	long := "a-name-that-only-a-PAX-record-can-hold" + strings.Repeat("-", 100)
	whole := of(file("a", strings.Repeat("a", 1000)), dir("d"), file("d/b", "b"))

	for _, tt := range []struct {
		what    string
		archive []byte
		want    error
	}{
		{"dotdot", of(file("../outside/secret", "led out\n")), ErrEscapes},
		{"dotdot in the middle", of(file("a/../../outside/secret", "led out\n")), ErrEscapes},
		{"dotdot alone", of(dir("..")), ErrEscapes},
		{"absolute name", of(file("/tmp/gocker-led-out", "")), ErrEscapes},
		{"absolute folder", of(dir("/")), ErrEscapes},
		{"good entries first", of(file("a", "1"), dir("old"), file("old/file", "2"), file("../x", "3")), ErrEscapes},
		{"symlink to outside", of(symlink("a", "../outside")), ErrEscapes},
		{"symlink to an absolute name", of(symlink("a", "/etc/passwd")), ErrEscapes},
		{"symlink to outside and a file through it", of(symlink("a", "../../outside"), file("a/secret", "led out\n")), ErrEscapes},
		{"absolute symlink and a file through it", of(symlink("a", os.TempDir()), file("a/gocker-led-out", "")), ErrEscapes},
		{"symlink to outside and a folder through it", of(symlink("a", "../../outside"), dir("a/b")), ErrEscapes},
		{"symlink to outside and a symlink through it", of(symlink("a", "../../outside"), symlink("a/b", "secret")), ErrEscapes},
		{"dotdot after a symlink", of(dir("d/e"), symlink("a", "d/e"), file("a/../../outside/secret", "led out\n")), ErrEscapes},
		{"two symlinks that together lead outside", of(symlink("a", "."), dir("a/b"), symlink("a/b/c", "../../outside")), ErrEscapes},
		{"folder swapped for a symlink to outside", of(dir("a"), file("a/x", "1"), symlink("a", "../../outside"), file("a/secret", "led out\n")), ErrEscapes},
		{"symlink swapped for one to outside", of(dir("d"), symlink("a", "d"), file("a/x", "1"), symlink("a", "../../outside"), file("a/secret", "led out\n")), ErrEscapes},
		{"hard link to outside", of(link("a", "../outside/secret")), ErrEscapes},
		{"hard link to an absolute name", of(link("a", "/etc/passwd")), ErrEscapes},
		{"hard link through a symlink to outside", of(symlink("l", "../../outside"), link("a", "l/secret")), ErrEscapes},

		{"the archive's own name", of(file("package.tar", "")), ErrArchive},
		{"the archive's own name, spelled differently", of(file("./x/../package.tar", "")), ErrArchive},
		{"the archive's own name, as a folder", of(file("package.tar/x", "")), ErrArchive},
		{"the archive's own name, through a symlink", of(symlink("a", "."), file("a/package.tar", "")), ErrArchive},
		{"the folder itself as a file", of(file(".", "")), ErrArchive},
		{"the folder itself as a symlink", of(symlink(".", "old")), ErrArchive},
		{"no name", of(file("", "")), ErrArchive},
		{"NUL in a name", bytes.Replace(of(file(long+"X", "")), []byte(long+"X"), []byte(long+"\x00"), 1), ErrArchive},
		{"a file in a file", of(file("a", ""), file("a/b", "")), ErrArchive},
		{"a file behind a symlink to nowhere", of(symlink("a", "b"), file("a/b", "")), ErrArchive},
		{"a file behind a symlink to itself", of(symlink("a", "a"), file("a/b", "")), ErrArchive},
		{"hard link to nothing", of(link("a", "b")), ErrArchive},
		{"hard link to itself", of(file("a", ""), link("a", "a")), ErrArchive},
		{"hard link to a folder", of(dir("d"), link("a", "d")), ErrArchive},
		{"hard link to the folder itself", of(link("a", ".")), ErrArchive},
		{"unknown type", of(typed(file("a", ""), 'Z')), ErrArchive},
		{"name longer than a file system has", of(file(strings.Repeat("a", 300), "")), ErrArchive},

		{"empty file", nil, ErrArchive},
		{"no entries", of(), ErrArchive},
		{"text", []byte(strings.Repeat("this is no archive\n", 100)), ErrArchive},
		{"short text", []byte("no"), ErrArchive},
		{"gzip of text", gz(t, []byte("this is no archive\n")), ErrArchive},
		{"only the magic of gzip", []byte("\x1f\x8b"), ErrArchive},
		{"only the magic of zstd", []byte("\x28\xb5\x2f\xfd"), ErrArchive},
		{"only the magic of xz", []byte("\xfd7zXZ\x00"), ErrArchive},
		{"only the magic of bzip2", []byte("BZh91AY&SY"), ErrArchive},
		{"cut in a header", whole[:300], ErrArchive},
		{"cut in a file", whole[:512+700], ErrArchive},
		{"cut in a file's padding", whole[:512+1010], ErrArchive},
		{"cut between two entries", whole[:512+1024], ErrArchive},
		{"cut before the end mark", whole[:len(whole)-1024], ErrArchive},
		{"cut in the end mark", whole[:len(whole)-512], ErrArchive},
		{"gzip cut in its header", gz(t, whole)[:5], ErrArchive},
		{"gzip cut in the middle", gz(t, whole)[:len(gz(t, whole))/2], ErrArchive},
		{"gzip cut in its checksum", gz(t, whole)[:len(gz(t, whole))-5], ErrArchive},
		{"gzip with a wrong checksum", append(gz(t, whole)[:len(gz(t, whole))-8], "12345678"...), ErrArchive},
		{"xz cut in the middle", compress(t, archiver.NewXz(), whole)[:120], ErrArchive},
		{"zstd cut in the middle", compress(t, archiver.NewZstd(), whole)[:60], ErrArchive},
		{"bzip2 cut in the middle", compress(t, archiver.NewBz2(), whole)[:60], ErrArchive},
	} {
		t.Run(tt.what, func(t *testing.T) {
			base, pkg, to := house(t, tt.archive)
			before := testenv.Tree(t, base)
			err := Extract(pkg, to)
			if !errors.Is(err, tt.want) {
				t.Errorf("Extract = %v, want %v", err, tt.want)
			}
			if after := testenv.Tree(t, base); after != before {
				t.Errorf("Extract left\n%swant what was there before\n%s", after, before)
			}
			if _, err := os.Lstat(filepath.Join(os.TempDir(), "gocker-led-out")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("Extract wrote outside: %v", err)
			}
		})
	}
}

// CVE-2024-0406: the library looks at names, and a symbolic link changes what a name means. This is why we write the
// files ourselves.
func TestArchiverLeavesItsFolderAndExtractDoesNot(t *testing.T) {
	base, pkg, to := house(t, nil)
	archive := testenv.Tar(t, symlink("door", filepath.Join(base, "outside")), file("door/secret", "led out\n"))
	if err := os.WriteFile(pkg, archive, 0o644); err != nil {
		t.Fatal(err)
	}
	before := testenv.Tree(t, base)
	if err := Extract(pkg, to); !errors.Is(err, ErrEscapes) {
		t.Errorf("Extract = %v, want ErrEscapes", err)
	}
	if after := testenv.Tree(t, base); after != before {
		t.Errorf("Extract left\n%swant what was there before\n%s", after, before)
	}

	library := archiver.NewTar()
	library.OverwriteExisting = true
	if err := library.Unarchive(pkg, to); err != nil {
		t.Errorf("archiver's Unarchive = %v, want none", err)
	}
	secret, err := os.ReadFile(filepath.Join(base, "outside", "secret"))
	if err != nil || string(secret) != "led out\n" {
		t.Errorf("outside the folder there is %q, %v: archiver holds now? then the page of step 2 has to change", secret, err)
	}
}

func TestCleanNamesAreRelative(t *testing.T) {
	for name, want := range map[string]string{
		"a": "a", "./a": "a", "/a": "a", "//a/./b/": "a/b", "a/../b": "b", ".": ".", "/": ".", "": ".", "a/..": ".", "..a": "..a",
	} {
		if got, err := Clean(name); err != nil || got != want {
			t.Errorf("Clean(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
	for name, want := range map[string]error{"..": ErrEscapes, "../a": ErrEscapes, "/../a": ErrEscapes, "a/../../b": ErrEscapes, "a\x00b": ErrArchive} {
		if got, err := Clean(name); !errors.Is(err, want) {
			t.Errorf("Clean(%q) = %q, %v; want %v", name, got, err, want)
		}
	}
}

func TestAnErrorOfTheCallerIsNotTheArchives(t *testing.T) {
	mine := errors.New("mine")
	err := Each(bytes.NewReader(testenv.Tar(t, file("a", "1"))), func(*tar.Header, io.Reader) error { return mine })
	if !errors.Is(err, mine) || errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("Each = %v, want the caller's error with the entry's name", err)
	}
}
