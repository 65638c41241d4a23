//go:build linux

package changeset

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/testenv"
	"gocker/step02-untar/budget"
	"gocker/step02-untar/untar"
	"gocker/step03-layers/merged"
)

var (
	file, dir, symlink, link = testenv.File, testenv.Dir, testenv.Symlink, testenv.Link
)

type entries = []testenv.Entry

// unpack unpacks layers over each other, the lowest first.
func unpack(t testing.TB, archives ...[]byte) (below merged.Stack, all []Changeset, err error) {
	t.Helper()
	for i, archive := range archives {
		layer := filepath.Join(t.TempDir(), "fs")
		c, err := Unpack(bytes.NewReader(archive), layer, func() (merged.Stack, error) { return below, nil }, budget.Limits{}.Budget())
		if err != nil {
			return below, all, fmt.Errorf("layer %d: %w", i+1, err)
		}
		below, all = append(below, layer), append(all, c)
	}
	return below, all, nil
}

// unpacked is unpack for layers that are right.
func unpacked(t testing.TB, archives ...[]byte) (merged.Stack, []Changeset) {
	t.Helper()
	stack, all, err := unpack(t, archives...)
	if err != nil {
		t.Fatalf("Unpack = %v", err)
	}
	return stack, all
}

// seen spells what one layer's folder says: "d/" a folder, "d/!" an opaque one, "a=1" a file, "a!" a whiteout, "a->b".
func seen(t testing.TB, layer string) string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(layer, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == layer {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		name, what := strings.TrimPrefix(path, layer+"/"), ""
		switch {
		case merged.IsWhiteout(info):
			what = "!"
		case info.IsDir() && merged.IsOpaque(path):
			what = "/!"
		case info.IsDir():
			what = "/"
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			what = "->" + target
		default:
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			what = "=" + string(content)
		}
		all = append(all, name+what)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

func TestWhiteoutsBecomeWhatOverlayfsWants(t *testing.T) {
	testenv.NeedRoot(t)
	usr := entries{dir("usr"), dir("usr/bin"), file("usr/bin/sh", "1"), symlink("bin", "usr/bin"), symlink("abs", "/usr/bin")}
	for _, tt := range []struct {
		what         string
		lower, upper entries
		want         string
	}{
		{"a file is deleted", entries{file("a", "1")}, entries{file(".wh.a", "")}, "a!"},
		{"a folder is deleted", entries{dir("d"), file("d/a", "1")}, entries{file(".wh.d", "")}, "d!"},
		{"a file in a folder that is left out", entries{dir("d"), file("d/a", "1")}, entries{file("d/.wh.a", "")}, "d/ d/a!"},
		{"a symlink is deleted, not what it leads to", usr, entries{file(".wh.bin", "")}, "bin!"},
		{"the same twice", entries{file("a", "1")}, entries{file(".wh.a", ""), file(".wh.a", "")}, "a!"},
		{"nothing is deleted", entries{file("a", "1")}, entries{file(".wh.b", ""), file("c", "2")}, "c=2"},
		{"nothing is deleted, in a folder that nobody has", entries{file("a", "1")}, entries{file("d/.wh.b", "")}, ""},
		{"nothing is deleted, in a new folder", entries{file("a", "1")}, entries{dir("d"), file("d/.wh.a", "")}, "d/"},
		{"nothing is deleted, in the lowest layer", nil, entries{file(".wh.a", ""), dir("d"), file("d/.wh..wh..opq", "")}, "d/"},
		{"a folder and what is in it", entries{dir("d"), file("d/a", "1"), file("d/b", "1"), dir("d/e"), file("d/e/c", "1")},
			entries{file("d/.wh.a", ""), file("d/.wh.b", ""), file("d/e/.wh.c", ""), file(".wh.d", "")}, "d!"},

		{"a file is deleted and added", entries{file("a", "1")}, entries{file(".wh.a", ""), file("a", "2")}, "a=2"},
		{"a file is added and deleted", entries{file("a", "1")}, entries{file("a", "2"), file(".wh.a", "")}, "a=2"},
		{"a folder is deleted and added", entries{dir("d"), file("d/a", "1")}, entries{file(".wh.d", ""), dir("d"), file("d/b", "2")}, "d/! d/b=2"},
		{"a folder is added and deleted", entries{dir("d"), file("d/a", "1")}, entries{dir("d"), file("d/b", "2"), file(".wh.d", "")}, "d/! d/b=2"},
		{"a folder is deleted, a file in it added", entries{dir("d"), file("d/a", "1")}, entries{file(".wh.d", ""), file("d/b", "2")}, "d/! d/b=2"},
		{"a file becomes a folder", entries{file("a", "1")}, entries{dir("a"), file("a/b", "2")}, "a/ a/b=2"},
		{"a folder becomes a file", entries{dir("d"), file("d/a", "1")}, entries{file("d", "2")}, "d=2"},
		{"a file becomes a folder that is left out", entries{file("a", "1")}, entries{file("a/b", "2")}, "a/ a/b=2"},

		{"opaque", entries{dir("d"), file("d/a", "1")}, entries{dir("d"), file("d/.wh..wh..opq", ""), file("d/b", "2")}, "d/! d/b=2"},
		{"opaque at the end", entries{dir("d"), file("d/a", "1")}, entries{dir("d"), file("d/b", "2"), file("d/.wh..wh..opq", "")}, "d/! d/b=2"},
		{"opaque, the folder left out", entries{dir("d"), file("d/a", "1")}, entries{file("d/.wh..wh..opq", "")}, "d/!"},
		{"opaque, with a whiteout in it", entries{dir("d"), file("d/a", "1")}, entries{dir("d"), file("d/.wh..wh..opq", ""), file("d/.wh.a", "")}, "d/!"},
		{"opaque in opaque", entries{dir("d"), dir("d/e"), file("d/e/a", "1")}, entries{file("d/.wh..wh..opq", ""), dir("d/e"), file("d/e/.wh..wh..opq", "")}, "d/! d/e/!"},
		{"opaque, in place of a file", entries{file("d", "1")}, entries{dir("d"), file("d/.wh..wh..opq", "")}, "d/"},
		{"opaque, and then a file", entries{dir("d"), file("d/a", "1")}, entries{file("d/.wh..wh..opq", ""), file("d", "2")}, "d=2"},
		{"all is deleted", entries{file("a", "1"), dir("d"), file("d/b", "1")}, entries{file(".wh..wh..opq", ""), file("c", "2")}, "a! c=2 d!"},
		{"all is deleted and some added", entries{file("a", "1"), dir("d"), file("d/b", "1")}, entries{dir("."), file(".wh..wh..opq", ""), file("a", "2"), dir("d")}, "a=2 d/!"},
		{"what aufs kept for itself", entries{file("a", "1")}, entries{file(".wh..wh.aufs", ""), dir(".wh..wh.orph"), dir(".wh..wh.plnk")}, ""},
		{"names that only look alike", entries{file("a", "1")}, entries{file("wh.a", "2"), file(".whale", "3"), file("..wh.a", "4")}, "..wh.a=4 .whale=3 wh.a=2"},

		{"hard link to a file below", entries{file("a", "1")}, entries{link("b", "a")}, "a=1 b=1"},
		{"hard link to a file below, in a folder", entries{dir("d"), file("d/a", "1")}, entries{link("b", "./d/a")}, "b=1 d/ d/a=1"},
		{"hard link to a file below, which is deleted", entries{file("a", "1")}, entries{link("b", "a"), file(".wh.a", "")}, "a! b=1"},
		{"hard link to a symlink below", usr, entries{link("b", "bin")}, "b->usr/bin bin->usr/bin"},
		{"hard link through a symlink below", usr, entries{link("b", "bin/sh")}, "b=1 usr/ usr/bin/ usr/bin/sh=1"},
		{"a file through a symlink below", usr, entries{file("bin/ls", "2")}, "usr/ usr/bin/ usr/bin/ls=2"},
		{"a file through an absolute symlink below", usr, entries{file("abs/ls", "2")}, "usr/ usr/bin/ usr/bin/ls=2"},
		{"a file through a symlink of its own layer", usr, entries{symlink("b", "bin"), file("b/ls", "2")}, "b->bin usr/ usr/bin/ usr/bin/ls=2"},
		{"a file through a symlink above the root", entries{dir("etc"), symlink("up", "../../../etc")}, entries{file("up/a", "2")}, "etc/ etc/a=2"},
		{"a file through a symlink to nowhere", entries{symlink("l", "/no/where")}, entries{file("l/a", "2")}, "no/ no/where/ no/where/a=2"},
		{"a whiteout through a symlink below", usr, entries{file("bin/.wh.sh", "")}, "usr/ usr/bin/ usr/bin/sh!"},
		{"a folder in place of a symlink", usr, entries{dir("bin"), file("bin/ls", "2")}, "bin/ bin/ls=2"},
		{"a folder in place of a deleted symlink, left out", usr, entries{file(".wh.bin", ""), file("bin/ls", "2"), file("bin/x/y", "3")}, "bin/! bin/ls=2 bin/x/ bin/x/y=3"},
		{"a folder where all is deleted, left out", usr, entries{file(".wh..wh..opq", ""), file("bin/ls", "2")}, "abs! bin/! bin/ls=2 usr!"},
		{"a folder in a deleted folder, left out", entries{dir("d"), symlink("d/l", "/")}, entries{file(".wh.d", ""), file("d/l/a", "2")}, "d/! d/l/ d/l/a=2"},
		{"a file in place of a symlink", usr, entries{file("bin", "2")}, "bin=2"},
		{"an absolute name", entries{dir("d")}, entries{file("/d/a", "2")}, "d/ d/a=2"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			stack, _ := unpacked(t, testenv.Tar(t, tt.lower...), testenv.Tar(t, tt.upper...))
			if got := seen(t, stack[1]); got != tt.want {
				t.Errorf("the upper layer is %q, want %q", got, tt.want)
			}
		})
	}
}

func TestLayersThatLieAreRefused(t *testing.T) {
	testenv.NeedRoot(t)
	device := func(major, minor int64) testenv.Entry {
		return testenv.Entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: "dev", Devmajor: major, Devminor: minor, Format: tar.FormatGNU}}
	}
	for _, tt := range []struct {
		what  string
		upper entries
		want  error
	}{
		{"whiteout of nothing's name", entries{file("d/.wh.", "")}, untar.ErrArchive},
		{"whiteout of the folder", entries{file("d/.wh..", "")}, untar.ErrArchive},
		{"whiteout of the folder above", entries{file("d/.wh...", "")}, untar.ErrArchive},
		{"device 0/0", entries{device(0, 0)}, untar.ErrArchive},
		{"device that the kernel would make 0/0", entries{device(1<<12, 0)}, untar.ErrArchive},
		{"dotdot", entries{file("../a", "")}, untar.ErrEscapes},
		{"whiteout with dotdot", entries{file("../.wh.a", "")}, untar.ErrEscapes},
		{"hard link to outside", entries{link("b", "../../a")}, untar.ErrEscapes},
		{"hard link to nothing", entries{link("b", "nothing")}, untar.ErrArchive},
		{"hard link to what this host has", entries{link("b", "/etc/passwd")}, untar.ErrArchive},
		{"hard link to a folder below", entries{link("b", "d")}, untar.ErrArchive},
		{"a file behind a symlink to itself", entries{symlink("l", "l"), file("l/a", "")}, unix.ELOOP},
		{"a file in a file", entries{file("a", ""), file("a/b", "")}, untar.ErrArchive},
	} {
		t.Run(tt.what, func(t *testing.T) {
			_, _, err := unpack(t, testenv.Tar(t, dir("d"), file("d/a", "1")), testenv.Tar(t, tt.upper...))
			if !errors.Is(err, tt.want) {
				t.Errorf("Unpack = %v, want %v", err, tt.want)
			}
		})
	}
}

// A layer with such xattrs would hide or redirect what no digest and no scanner knows of.
func TestXattrsOfOverlayfsAreDroppedAndOthersKept(t *testing.T) {
	testenv.NeedRoot(t)
	forged := dir("d")
	forged.PAXRecords = map[string]string{"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.trusted.overlay.redirect": "/etc", "SCHILY.xattr.user.note": "1"}
	stack, _ := unpacked(t, testenv.Tar(t, dir("d"), file("d/a", "1")), testenv.Tar(t, forged))
	list := make([]byte, 1000)
	n, err := unix.Llistxattr(filepath.Join(stack[1], "d"), list)
	if got, want := string(list[:max(n, 0)]), "user.note\x00"; err != nil || got != want {
		t.Errorf("xattrs are %q, %v; want %q", got, err, want)
	}
}

func TestFoldersThatTheLayerLeftOutAreThoseBelow(t *testing.T) {
	testenv.NeedRoot(t)
	below := func(name string) testenv.Entry {
		e := dir(name)
		e.Mode, e.Uid, e.Gid, e.ModTime = 0o2750, 1000, 100, time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC)
		e.PAXRecords = map[string]string{"SCHILY.xattr.user.note": "of " + name}
		return e
	}
	stack, _ := unpacked(t, testenv.Tar(t, below("."), below("a"), below("a/b"), below("o"), file("o/x", "1")),
		testenv.Tar(t, file("a/b/c", "2"), file("o/.wh..wh..opq", ""), file("new/x", "3")))
	for _, name := range []string{".", "a", "a/b", "o"} {
		at := filepath.Join(stack[1], name)
		var got, want unix.Stat_t
		if err := errors.Join(unix.Lstat(at, &got), unix.Lstat(filepath.Join(stack[0], name), &want)); err != nil {
			t.Fatal(err)
		}
		if got.Mode != want.Mode || got.Uid != 1000 || got.Gid != 100 || got.Mtim != want.Mtim || want.Mtim.Nsec != 7 {
			t.Errorf("%s has mode %o, owner %d:%d, mtime %v; want %o, 1000:100, %v", name, got.Mode, got.Uid, got.Gid, got.Mtim, want.Mode, want.Mtim)
		}
		value := make([]byte, 100)
		if n, err := unix.Lgetxattr(at, "user.note", value); err != nil || string(value[:n]) != "of "+name {
			t.Errorf("user.note of %s is %q, %v", name, value[:max(n, 0)], err)
		}
	}
	if s := seen(t, stack[1]); s != "a/ a/b/ a/b/c=2 new/ new/x=3 o/!" {
		t.Errorf("the upper layer is %q", s)
	}
}

// Of several processes that pull at once, the lower layer of one may be kept and the upper layer of another.
func TestAFolderOfWhichNoLayerSaysAnythingIsAlwaysTheSame(t *testing.T) {
	testenv.NeedRoot(t)
	defer unix.Umask(unix.Umask(0o077))
	stack, _ := unpacked(t, testenv.Tar(t, file("d/a", "1"), file("gone/a", "1")), testenv.Tar(t, file("d/b", "2"), file(".wh.gone", ""), file("gone/b", "2")))
	for _, layer := range stack {
		for _, name := range []string{".", "d", "gone"} {
			info, err := os.Lstat(filepath.Join(layer, name))
			if err != nil || !info.ModTime().Equal(NoTime) || info.Mode() != fs.ModeDir|0o755 {
				t.Errorf("%s of %s: %v, %v; want mode 0755 and the time %v", name, layer, info, err, NoTime)
			}
		}
	}
}

func TestHardLinkToALowerLayerIsOneFile(t *testing.T) {
	testenv.NeedRoot(t)
	lower := file("a", "1")
	lower.Mode, lower.Uid, lower.PAXRecords = 0o4711, 1000, map[string]string{"SCHILY.xattr.user.note": "1"}
	stack, _ := unpacked(t, testenv.Tar(t, lower), testenv.Tar(t, link("b", "a")))
	var a, b unix.Stat_t
	if err := errors.Join(unix.Lstat(filepath.Join(stack[1], "a"), &a), unix.Lstat(filepath.Join(stack[1], "b"), &b)); err != nil {
		t.Fatal(err)
	}
	if a.Ino != b.Ino || a.Mode != unix.S_IFREG|0o4711 || a.Uid != 1000 || a.Mtim.Sec != testenv.Epoch.Unix() {
		t.Errorf("a is %+v, b is %+v; want one file with the lower one's mode, owner and time", a, b)
	}
}

// A layer as docker made it on aufs, before 2015 or so.
func TestHardLinksOfAufsAreOneFile(t *testing.T) {
	testenv.NeedRoot(t)
	plnk := entries{dir(".wh..wh.plnk"), file(".wh..wh.plnk/7.8", "1"), file(".wh..wh.plnk/9.9", "unused"), dir(".wh..wh.orph"), file(".wh..wh.aufs", "")}
	stack, all := unpacked(t, testenv.Tar(t, append(plnk, link("a", ".wh..wh.plnk/7.8"), dir("d"), link("d/b", "./.wh..wh.plnk/7.8"))...))
	if got := seen(t, stack[0]); got != "a=1 d/ d/b=1" {
		t.Errorf("the layer is %q", got)
	}
	var a, b unix.Stat_t
	if err := errors.Join(unix.Lstat(filepath.Join(stack[0], "a"), &a), unix.Lstat(filepath.Join(stack[0], "d/b"), &b)); err != nil || a.Ino != b.Ino || a.Nlink != 2 {
		t.Errorf("a is %+v, d/b is %+v, %v; want one file of two names", a, b, err)
	}
	if all[0].Added != 3 {
		t.Errorf("%d are added, want 3", all[0].Added)
	}
	if _, _, err := unpack(t, testenv.Tar(t, link("a", ".wh..wh.plnk/7.8"))); !errors.Is(err, untar.ErrArchive) {
		t.Errorf("a link to nothing there: %v, want ErrArchive", err)
	}
}

func TestALayerMayHaveNothingInIt(t *testing.T) {
	testenv.NeedRoot(t)
	for _, size := range []int{512, 1024, 10240} { // archive/tar writes 1024 zeros, tar(1) 10240
		stack, all := unpacked(t, testenv.Tar(t, file("a", "1")), make([]byte, size))
		if got := seen(t, stack[1]); got != "" {
			t.Errorf("a layer of %d zeros is %q, want nothing", size, got)
		}
		if l := all[1]; l.Added+l.Updated+l.Deleted != 0 {
			t.Errorf("a layer of %d zeros is %+v, want nothing added, updated, deleted", size, l)
		}
	}
}

func TestLayersAreCountedAgainstThoseBelow(t *testing.T) {
	testenv.NeedRoot(t)
	_, all := unpacked(t, testenv.Tar(t, file("a", "1"), file("b", "1"), dir("d"), file("d/x", "1"), file("d/y", "1"), file("gone", "1")),
		testenv.Tar(t, file("a", "2"), file("new", "2"), file(".wh.gone", ""), file(".wh.nothing", ""), dir("d"), file("d/.wh..wh..opq", ""), file("d/x", "2"),
			dir("temp"), file("temp/x", "1"), file("temp", "2")))
	got := fmt.Sprint(all[1].Added, all[1].Updated, all[1].Deleted)
	if want := "2 3 2"; got != want { // new, temp; a, d, d/x; gone, d/y
		t.Errorf("added, updated, deleted are %s, want %s", got, want)
	}
}
