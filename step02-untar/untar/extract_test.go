package untar

import (
	"archive/tar"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mholt/archiver/v3"

	"gocker/step01-pull/shared/testenv"
)

// extract unpacks an archive into an empty folder.
func extract(t testing.TB, archive []byte) string {
	t.Helper()
	to := t.TempDir()
	pkg := filepath.Join(t.TempDir(), "package.tar")
	if err := os.WriteFile(pkg, archive, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Extract(pkg, to); err != nil {
		t.Fatalf("Extract = %v", err)
	}
	return to
}

// treeOf is what testenv.Tree says of a folder with these entries in it.
func treeOf(lines ...string) string {
	return strings.Join(append([]string{". drwxr-xr-x"}, lines...), "\n") + "\n"
}

func TestCompressionIsFoundByTheFirstBytes(t *testing.T) {
	plain := testenv.Tar(t, file("a", strings.Repeat("content\n", 50_000)))
	want := testenv.Tree(t, extract(t, plain))
	for what, archive := range map[string][]byte{
		"gzip":             gz(t, plain),
		"two gzip members": append(gz(t, plain[:1000]), gz(t, plain[1000:])...),
		"zstd":             compress(t, archiver.NewZstd(), plain),
		"bzip2":            compress(t, archiver.NewBz2(), plain),
		"xz":               compress(t, archiver.NewXz(), plain),
	} {
		if got := testenv.Tree(t, extract(t, archive)); got != want {
			t.Errorf("Extract of %s made\n%swant\n%s", what, got, want)
		}
	}
}

func TestTheLastOfTwoEntriesWins(t *testing.T) {
	for _, tt := range []struct {
		what    string
		entries []testenv.Entry
		want    string
	}{
		{"file twice", []testenv.Entry{file("a", "1"), file("a", "2")}, treeOf(`a -rw-r--r-- "2"`)},
		{"folder, file", []testenv.Entry{dir("a"), file("a/b", "1"), file("a", "2")}, treeOf(`a -rw-r--r-- "2"`)},
		{"file, folder", []testenv.Entry{file("a", "1"), dir("a"), file("a/b", "2")}, treeOf("a drwxr-xr-x", `a/b -rw-r--r-- "2"`)},
		{"folder, file, folder", []testenv.Entry{dir("a"), dir("a/old"), file("a", "1"), dir("a"), file("a/b", "2")}, treeOf("a drwxr-xr-x", `a/b -rw-r--r-- "2"`)},
		{"folder twice keeps its files", []testenv.Entry{dir("a"), file("a/b", "1"), dir("a")}, treeOf("a drwxr-xr-x", `a/b -rw-r--r-- "1"`)},
		{"symlink, file", []testenv.Entry{file("b", "1"), symlink("a", "b"), file("a", "2")}, treeOf(`a -rw-r--r-- "2"`, `b -rw-r--r-- "1"`)},
		{"file behind a symlink that is replaced", []testenv.Entry{dir("d"), symlink("a", "d"), dir("a/b"), file("a", "1")}, treeOf(`a -rw-r--r-- "1"`, "d drwxr-xr-x", "d/b drwxr-xr-x")},
		{"hard link, file", []testenv.Entry{file("b", "1"), link("a", "b"), file("a", "2")}, treeOf(`a -rw-r--r-- "2"`, `b -rw-r--r-- "1"`)},
	} {
		if got := testenv.Tree(t, extract(t, testenv.Tar(t, tt.entries...))); got != tt.want {
			t.Errorf("Extract of %s made\n%swant\n%s", tt.what, got, tt.want)
		}
	}
}

func TestAPackageReplacesWhatWasUnpackedBefore(t *testing.T) {
	_, pkg, to := house(t, testenv.Tar(t, file("old", "a file now"), file("new", "1")))
	for range 2 {
		if err := Extract(pkg, to); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(pkg); err != nil {
			t.Fatal(err)
		}
		if got, want := testenv.Tree(t, to), treeOf(`new -rw-r--r-- "1"`, `old -rw-r--r-- "a file now"`); got != want {
			t.Errorf("Extract made\n%swant\n%s", got, want)
		}
		if err := os.WriteFile(pkg, testenv.Tar(t, file("old", "a file now"), file("new", "1")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFoldersThatTheArchiveLeftOutAreMade(t *testing.T) {
	if got, want := testenv.Tree(t, extract(t, testenv.Tar(t, file("a/b/c", "1")))), treeOf("a drwxr-xr-x", "a/b drwxr-xr-x", `a/b/c -rw-r--r-- "1"`); got != want {
		t.Errorf("Extract made\n%swant\n%s", got, want)
	}
}

func TestAPackageMayHaveLinksThatStayInside(t *testing.T) {
	got := testenv.Tree(t, extract(t, testenv.Tar(t, dir("a"), file("b", "1"), symlink("a/l", "../b"), symlink("nowhere", "c/d"), file("a/m", "2"), symlink("m", "a/m"))))
	if want := treeOf("a drwxr-xr-x", "a/l Lrwxrwxrwx -> ../b", `a/m -rw-r--r-- "2"`, `b -rw-r--r-- "1"`, "m Lrwxrwxrwx -> a/m", "nowhere Lrwxrwxrwx -> c/d"); got != want {
		t.Errorf("Extract made\n%swant\n%s", got, want)
	}
}

// git archive begins with a comment on the whole archive. It is no file.
func TestAGlobalHeaderIsNoFile(t *testing.T) {
	comment := testenv.Entry{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": "c059bfaa"}}}
	if got, want := testenv.Tree(t, extract(t, testenv.Tar(t, comment, file("a", "1")))), treeOf(`a -rw-r--r-- "1"`); got != want {
		t.Errorf("Extract made\n%swant\n%s", got, want)
	}
}

func TestSparseFilesHaveTheirHoles(t *testing.T) {
	got, err := os.ReadFile(filepath.Join(extract(t, testenv.Tar(t, testenv.Sparse("sparse", "content", 20000))), "sparse"))
	hole := strings.Repeat("\x00", 20000)
	if want := hole + "content" + hole; err != nil || string(got) != want {
		t.Errorf("Extract made %d bytes, %v; want %d with %q in the middle", len(got), err, len(want), "content")
	}
}
