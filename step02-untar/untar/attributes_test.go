//go:build linux

package untar

import (
	"archive/tar"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/sample"
	"gocker/step01-pull/shared/testenv"
)

// with changes an entry's header.
func with(e testenv.Entry, change func(h *tar.Header)) testenv.Entry {
	change(&e.Header)
	return e
}

func lstat(t testing.TB, parts ...string) unix.Stat_t {
	t.Helper()
	var s unix.Stat_t
	if err := unix.Lstat(filepath.Join(parts...), &s); err != nil {
		t.Fatalf("lstat %q: %v", filepath.Join(parts...), err)
	}
	return s
}

func TestModesAndOwnersAreKept(t *testing.T) {
	testenv.NeedMachinesRoot(t, "its files have owners that are in no range")
	of := func(mode int64, uid, gid int) func(*tar.Header) {
		return func(h *tar.Header) { h.Mode, h.Uid, h.Gid = mode, uid, gid }
	}
	fifo := testenv.Entry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "fifo"}}
	char := testenv.Entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: "char", Devmajor: 1, Devminor: 3}}
	block := testenv.Entry{Header: tar.Header{Typeflag: tar.TypeBlock, Name: "block", Devmajor: 259, Devminor: 0xabcde}}
	to := extract(t, testenv.Tar(t,
		with(file("plain", ""), of(0o640, 1000, 100)),
		with(file("setuid", ""), of(0o4755, 1000, 100)),
		with(file("setgid", ""), of(0o2755, 0, 42)),
		with(file("none", ""), of(0, 0, 0)),
		with(dir("sticky"), of(0o1777, 0, 0)),
		with(dir("closed"), of(0, 7, 8)), file("closed/file", ""),
		with(symlink("symlink", "plain"), of(0o777, 5, 6)),
		with(file("numbers", ""), of(0o644, 4_000_000_000, 3_000_000_000)),
		with(fifo, of(0o622, 1, 2)), with(char, of(0o666, 0, 0)), with(block, of(0o660, 0, 6)),
	))
	for name, want := range map[string]unix.Stat_t{
		"plain":       {Mode: unix.S_IFREG | 0o640, Uid: 1000, Gid: 100},
		"setuid":      {Mode: unix.S_IFREG | 0o4755, Uid: 1000, Gid: 100},
		"setgid":      {Mode: unix.S_IFREG | 0o2755, Gid: 42},
		"none":        {Mode: unix.S_IFREG},
		"sticky":      {Mode: unix.S_IFDIR | 0o1777},
		"closed":      {Mode: unix.S_IFDIR, Uid: 7, Gid: 8},
		"closed/file": {Mode: unix.S_IFREG | 0o644},
		"symlink":     {Mode: unix.S_IFLNK | 0o777, Uid: 5, Gid: 6},
		"numbers":     {Mode: unix.S_IFREG | 0o644, Uid: 4_000_000_000, Gid: 3_000_000_000},
		"fifo":        {Mode: unix.S_IFIFO | 0o622, Uid: 1, Gid: 2},
		"char":        {Mode: unix.S_IFCHR | 0o666, Rdev: unix.Mkdev(1, 3)},
		"block":       {Mode: unix.S_IFBLK | 0o660, Gid: 6, Rdev: unix.Mkdev(259, 0xabcde)},
	} {
		got := lstat(t, to, name)
		if got.Mode != want.Mode || got.Uid != want.Uid || got.Gid != want.Gid || got.Rdev != want.Rdev {
			t.Errorf("%s has mode %o, owner %d:%d, device %#x; want %o, %d:%d, %#x", name, got.Mode, got.Uid, got.Gid, got.Rdev, want.Mode, want.Uid, want.Gid, want.Rdev)
		}
	}
}

// The kernel cuts numbers that are too large, and what is left may be another device, or overlayfs's whiteout.
func TestDeviceNumbersThatTheKernelWouldCutAreRefused(t *testing.T) {
	testenv.NeedRoot(t)
	for _, number := range [][2]int64{{1 << 12, 0}, {0, 1 << 20}, {1 << 32, 0}, {0, 1 << 32}, {1<<12 + 1, 3}} {
		device := testenv.Entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: "device", Devmajor: number[0], Devminor: number[1], Format: tar.FormatGNU}}
		base, pkg, to := house(t, testenv.Tar(t, device))
		before := testenv.Tree(t, base)
		if err := Extract(pkg, to); !errors.Is(err, ErrArchive) {
			t.Errorf("Extract of device %d/%d = %v, want ErrArchive", number[0], number[1], err)
		}
		if after := testenv.Tree(t, base); after != before {
			t.Errorf("Extract left\n%swant\n%s", after, before)
		}
	}
}

func TestTimesAreKeptToTheNanosecond(t *testing.T) {
	at := func(when time.Time) func(*tar.Header) { return func(h *tar.Header) { h.ModTime = when } }
	recent := time.Date(2021, 11, 24, 20, 19, 40, 123456789, time.UTC)
	old := time.Date(1969, 7, 20, 20, 17, 40, 5, time.UTC)
	future := time.Date(2300, 1, 1, 0, 0, 0, 999999999, time.UTC)
	epoch := time.Unix(0, 0)
	to := extract(t, testenv.Tar(t,
		with(dir("dir"), at(old)), with(file("dir/file", ""), at(recent)), with(dir("dir/sub"), at(future)),
		with(symlink("symlink", "dir"), at(old)), with(file("old", ""), at(old)), with(file("future", ""), at(future)), with(file("epoch", ""), at(epoch)),
		with(file("read", ""), func(h *tar.Header) { h.ModTime, h.AccessTime = recent, old }),
	))
	for name, want := range map[string]time.Time{
		"dir": old, "dir/file": recent, "dir/sub": future, "symlink": old, "old": old, "future": future, "epoch": epoch, "read": recent,
	} {
		s := lstat(t, to, name)
		if got := time.Unix(s.Mtim.Unix()); !got.Equal(want) {
			t.Errorf("%s was modified %s, want %s", name, got.UTC(), want.UTC())
		}
	}
	s := lstat(t, to, "read")
	if got := time.Unix(s.Atim.Unix()); !got.Equal(old) {
		t.Errorf("read was read %s, want %s", got.UTC(), old)
	}
}

func TestXattrsAreKept(t *testing.T) {
	testenv.NeedRoot(t)
	// cap_net_raw=ep: see capabilities(7) and struct vfs_cap_data.
	capability := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	attrs := map[string]string{"SCHILY.xattr.user.note": "with\nline and \x00", "SCHILY.xattr.security.capability": capability, "comment": "no xattr"}
	set := func(h *tar.Header) { h.Uid, h.Mode, h.PAXRecords = 1000, 0o4755, attrs }
	to := extract(t, testenv.Tar(t, with(file("ping", "#!"), set), with(dir("dir"), func(h *tar.Header) {
		h.PAXRecords = map[string]string{"SCHILY.xattr.user.note": "of a folder"}
	})))
	for _, tt := range []struct{ name, attr, want string }{
		{"ping", "user.note", "with\nline and \x00"}, {"ping", "security.capability", capability}, {"dir", "user.note", "of a folder"},
	} {
		value := make([]byte, 100)
		n, err := unix.Lgetxattr(filepath.Join(to, tt.name), tt.attr, value)
		if err != nil || string(value[:n]) != tt.want {
			t.Errorf("%s of %s is %q, %v; want %q", tt.attr, tt.name, value[:max(n, 0)], err, tt.want)
		}
	}
	if s := lstat(t, to, "ping"); s.Mode != unix.S_IFREG|0o4755 {
		t.Errorf("mode beside a capability is %o, want setuid too", s.Mode)
	}
}

// As archives of macOS have them, and those of machines whose file systems are others.
func TestXattrsWithoutAPlaceAreLeftOut(t *testing.T) {
	testenv.NeedRoot(t)
	w, err := NewWriter(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if got := w.LeftOut(); got != "" {
		t.Errorf("LeftOut of nothing = %q", got)
	}
	for i, e := range []testenv.Entry{file("a", ""), dir("d"), symlink("l", "a"), {Header: tar.Header{Typeflag: tar.TypeFifo, Name: "fifo"}}} {
		xattr := []string{"com.apple.provenance", "unknown.x", "user.note", "user.note"}[i]
		e.ModTime = testenv.Epoch
		e.PAXRecords = map[string]string{"SCHILY.xattr." + xattr: "1"}
		if err := w.Write(&e.Header, strings.NewReader("")); err != nil {
			t.Errorf("Write(%s with %s) = %v", e.Name, xattr, err)
		}
	}
	if err := w.Finish(); err != nil {
		t.Error(err)
	}
	if got, want := w.LeftOut(), `xattr com.apple.provenance of "a", and 3 more`; got != want {
		t.Errorf("LeftOut = %q, want %q", got, want)
	}
	extract(t, testenv.Tar(t, with(file("a", ""), func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr.com.apple.provenance": "1"} })))
}

func TestHardLinksAreOneFile(t *testing.T) {
	to := extract(t, testenv.Tar(t, file("a", "1"), dir("d"), link("d/b", "a"), link("d/c", "./d/b"), symlink("s", "a"), link("t", "s")))
	a := lstat(t, to, "a")
	for _, name := range []string{"d/b", "d/c"} {
		if b := lstat(t, to, name); b.Ino != a.Ino {
			t.Errorf("%s is file %d, want the same as a, %d", name, b.Ino, a.Ino)
		}
	}
	if s, l := lstat(t, to, "s"), lstat(t, to, "t"); l.Ino != s.Ino {
		t.Errorf("t is file %d, want the link s itself, %d", l.Ino, s.Ino)
	}
}

func TestAFullDiskLeavesOnlyThePackage(t *testing.T) {
	d := testenv.SmallDisk(t, 1<<20)
	ref, err := pull.ParseReference("app")
	if err != nil {
		t.Fatal(err)
	}
	// Zeros take little room in package.tar, whose layers are compressed: a tar of our own has them plain.
	image, lock, err := pull.Save(d, ref, testenv.Image(t), pull.Newer)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := os.WriteFile(d.PackageTar(image), gz(t, testenv.Tar(t, file("a", "1"), file("big", strings.Repeat("\x00", 2<<20)))), 0o644); err != nil {
		t.Fatal(err)
	}
	before := testenv.Tree(t, d.Root)
	if err := Package(d, image); !errors.Is(err, syscall.ENOSPC) || errors.Is(err, ErrArchive) {
		t.Errorf("Package = %v, want no space left on device", err)
	}
	if after := testenv.Tree(t, d.Root); after != before {
		t.Errorf("Package left\n%swant\n%s", after, before)
	}
}

func BenchmarkExtract(b *testing.B) {
	d := testenv.Dirs(b)
	img, _, err := sample.Image()
	if err != nil {
		b.Fatal(err)
	}
	ref, err := pull.ParseReference(pull.Sample)
	if err != nil {
		b.Fatal(err)
	}
	image, lock, err := pull.Save(d, ref, img, pull.Newer)
	if err != nil {
		b.Fatal(err)
	}
	defer lock.Close()
	info, err := os.Stat(d.PackageTar(image))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(info.Size())
	for b.Loop() {
		if err := Package(d, image); err != nil {
			b.Fatal(err)
		}
	}
}
