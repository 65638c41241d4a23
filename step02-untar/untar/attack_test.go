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
	"gocker/step02-untar/attack"
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
	attacks, err := attack.All()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range attacks {
		want := ErrArchive
		if tt.Kind < attack.OwnName {
			want = ErrEscapes
		}
		t.Run(tt.What, func(t *testing.T) {
			base, pkg, to := house(t, tt.Archive)
			before := testenv.Tree(t, base)
			err := Extract(pkg, to)
			if !errors.Is(err, want) {
				t.Errorf("Extract = %v, want %v", err, want)
			}
			if after := testenv.Tree(t, base); after != before {
				t.Errorf("Extract left\n%swant what was there before\n%s", after, before)
			}
			if _, err := os.Lstat(attack.LedOut()); !errors.Is(err, os.ErrNotExist) {
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
