//go:build linux

package cp

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/testenv"
	"gocker/step02-untar/budget"
)

// tree makes files: "dir/", "file=content", "link -> target".
func tree(t testing.TB, entries ...string) string {
	t.Helper()
	root := t.TempDir()
	for _, e := range entries {
		var err error
		link, target, isLink := strings.Cut(e, " -> ")
		name, content, _ := strings.Cut(e, "=")
		switch {
		case isLink:
			err = os.Symlink(target, filepath.Join(root, link))
		case strings.HasSuffix(e, "/"):
			err = os.Mkdir(filepath.Join(root, e), 0o755)
		default:
			err = os.WriteFile(filepath.Join(root, name), []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func inside(t testing.TB, root string) Tree {
	t.Helper()
	f, err := os.OpenFile(root, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return Inside(f)
}

// These are the cases of https://docs.docker.com/reference/cli/docker/container/cp/, and those of links.
func TestACopyIsCalledAndPlacedAsDockerDoes(t *testing.T) {
	for _, tt := range []struct {
		name, from, to string
		want           string // the file that has the content "1" afterwards
		err            error
	}{
		{"a file to a new name", "file", "new", "new", nil},
		{"a file to a new name that must be a folder", "file", "new/", "", ErrNoFolder},
		{"a file below a folder that is not there", "file", "no/new", "", ErrNoFolder},
		{"a file onto a file", "file", "old", "old", nil},
		{"a file onto a file that must be a folder", "file", "old/", "", ErrNotFolder},
		{"a file into a folder", "file", "there", "there/file", nil},
		{"a file into a folder with a slash", "file", "there/", "there/file", nil},
		{"a file into the root", "file", "/", "file", nil},
		{"a file that must be a folder", "file/", "new", "", unix.ENOTDIR},
		{"nothing", "nothing", "new", "", os.ErrNotExist},
		{"a folder to a new name", "dir", "new", "new/sub/file", nil},
		{"a folder to a new name with a slash", "dir/", "new/", "new/sub/file", nil},
		{"what is in a folder to a new name", "dir/.", "new", "new/sub/file", nil},
		{"a folder onto a file", "dir", "old", "", ErrOntoFile},
		{"a folder into a folder", "dir", "there", "there/dir/sub/file", nil},
		{"what is in a folder into a folder", "dir/.", "there", "there/sub/file", nil},
		{"what is in the parent of a folder", "dir/sub/..", "there", "there/sub/file", nil},
		{"a folder where a file has its name", "dir", "hasfile", "", ErrReplace},
		{"a file where a folder has its name", "file", "hasfolder", "", ErrReplace},
		{"a folder where a link has its name", "dir", "haslink", "", ErrReplace},
		{"a link to a folder that must be one", "todir/", "there", "there/todir/sub/file", nil},
		{"what is in a link to a folder", "todir/.", "there", "there/sub/file", nil},
		{"through a link to a folder", "todir/sub/file", "new", "new", nil},
		{"to a link to a folder", "file", "tothere", "there/file", nil},
		{"to a link to a file", "file", "toold", "old", nil},
		{"to a link to a new name", "file", "tonew", "there/new", nil},
		{"to a link to itself", "file", "loop", "", unix.ELOOP},
	} {
		for _, direction := range []string{"into a container", "out of a container"} {
			t.Run(tt.name+" "+direction, func(t *testing.T) {
				source := tree(t, "file=1", "dir/", "dir/sub/", "dir/sub/file=1", "todir -> dir", "tofile -> file")
				target := tree(t, "old=0", "there/", "tothere -> there", "toold -> there/../old", "tonew -> there/new", "loop -> loop",
					"hasfile/", "hasfile/dir=0", "hasfolder/", "hasfolder/file/", "haslink/", "haslink/dir -> ../there")
				var err error
				if direction == "into a container" {
					err = Copy(Host, source+"/"+tt.from, inside(t, target), "/"+strings.TrimPrefix(tt.to, "/"), Options{})
				} else {
					err = Copy(inside(t, source), tt.from, Host, target+"/"+strings.TrimPrefix(tt.to, "/"), Options{})
				}
				if !errors.Is(err, tt.err) {
					t.Fatalf("Copy(%q, %q) = %v, want %v", tt.from, tt.to, err, tt.err)
				}
				if got, err := os.ReadFile(filepath.Join(target, tt.want)); tt.want != "" && string(got) != "1" {
					t.Errorf("Copy(%q, %q): %q has %q, %v; there is\n%s", tt.from, tt.to, tt.want, got, err, testenv.Tree(t, target))
				}
			})
		}
	}
}

func TestALinkIsCopiedAsALinkUnlessItIsFollowed(t *testing.T) {
	source := tree(t, "file=1", "link -> file", "dir/", "dir/inside -> ../file")
	target := t.TempDir()
	if err := errors.Join(
		Copy(inside(t, source), "link", Host, target+"/link", Options{}),
		Copy(inside(t, source), "link", Host, target+"/followed", Options{Follow: true}),
		Copy(inside(t, source), "dir", Host, target, Options{Follow: true}),
	); err != nil {
		t.Fatal(err)
	}
	want := ". drwx------\ndir drwxr-xr-x\ndir/inside Lrwxrwxrwx -> ../file\nfollowed -rw-r--r-- \"1\"\nlink Lrwxrwxrwx -> file\n"
	if err := os.Chmod(target, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := testenv.Tree(t, target); got != want {
		t.Errorf("copied:\n%swant\n%s", got, want)
	}
}

func TestNoLinkOfAContainerLeadsToTheHost(t *testing.T) {
	host := tree(t, "secret=host", "dir/")
	up := strings.Repeat("../", 20)
	root := tree(t, "d/", "absolute -> "+host, "up -> "+up+host, "far -> d/../"+up+host, "secret -> "+host+"/secret", "new -> "+host+"/made", "d/up -> ..")
	container := inside(t, root)
	for _, from := range []string{"absolute/secret", "up/secret", "far/secret", "secret", "secret/", "absolute/.", "d/up/../../" + host + "/secret"} {
		if err := Copy(container, from, Host, t.TempDir(), Options{Follow: true}); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("Copy out of %q = %v, want ErrNotExist", from, err)
		}
	}
	file := tree(t, "file=container") + "/file"
	for _, to := range []string{"absolute/file", "absolute", "up/file", "far/file", "secret", "new"} {
		if err := Copy(Host, file, container, to, Options{}); !errors.Is(err, ErrNoFolder) {
			t.Errorf("Copy to %q = %v, want ErrNoFolder: in the container it leads to nothing", to, err)
		}
	}
	if got, want := testenv.Tree(t, host), ". drwxr-xr-x\ndir drwxr-xr-x\nsecret -rw-r--r-- \"host\"\n"; got != want {
		t.Errorf("the host's folder is now\n%swant\n%s", got, want)
	}
}

// A container that runs exchanges a folder for a link all the time, so whoever resolves a name twice is led astray.
func TestALinkThatIsSwappedInDuringACopyLeadsNowhere(t *testing.T) {
	host := tree(t, "secret=host")
	root := tree(t, "d/", "d/secret=container", "d/more/", "d/more/secret=container", "l -> "+host, "m -> "+host)
	stop, swapped := make(chan struct{}), make(chan error)
	go func() {
		for {
			select {
			case <-stop:
				swapped <- nil
				return
			default:
			}
			for _, pair := range [][2]string{{"d", "l"}, {"d/more", "m"}, {"l/more", "m"}} {
				err := unix.Renameat2(unix.AT_FDCWD, filepath.Join(root, pair[0]), unix.AT_FDCWD, filepath.Join(root, pair[1]), unix.RENAME_EXCHANGE)
				if err != nil && !errors.Is(err, os.ErrNotExist) {
					swapped <- err
					return
				}
			}
		}
	}()
	container, target := inside(t, root), t.TempDir()
	file := tree(t, "file=put here", "dir/", "dir/more/", "dir/more/file=put here")
	for i := range 400 {
		out := filepath.Join(target, fmt.Sprint(i))
		Copy(container, "/", Host, out, Options{}) // it may fail, but not tell what it must not
		Copy(container, "d/secret", Host, out+"-file", Options{})
		Copy(Host, file+"/file", container, "d/more", Options{})
		Copy(Host, file+"/dir/.", container, "d", Options{})
	}
	close(stop)
	if err := <-swapped; err != nil {
		t.Fatal(err)
	}
	if got, want := testenv.Tree(t, host), ". drwxr-xr-x\nsecret -rw-r--r-- \"host\"\n"; got != want {
		t.Errorf("the host's folder is now\n%swant\n%s", got, want)
	}
	if leaked := testenv.Tree(t, target); strings.Contains(leaked, `"host"`) {
		t.Error("a copy has what only the host has")
	}
}

func TestNoFifoIsWaitedForAndNoDeviceComesOut(t *testing.T) {
	testenv.NeedRoot(t)
	root := tree(t, "d/")
	if err := errors.Join(
		unix.Mkfifo(root+"/d/fifo", 0o600),
		unix.Mknod(root+"/disk", unix.S_IFBLK|0o666, int(unix.Mkdev(7, 0))),
	); err != nil {
		t.Fatal(err)
	}
	target := t.TempDir()
	if err := Copy(inside(t, root), "d", Host, target, Options{}); err != nil {
		t.Errorf("Copy of a fifo = %v", err)
	}
	if info, err := os.Lstat(target + "/d/fifo"); err != nil || info.Mode() != os.ModeNamedPipe|0o600 {
		t.Errorf("the copy of a fifo is %v, %v", info.Mode(), err)
	}
	if err := Copy(inside(t, root), "disk", Host, target, Options{}); !errors.Is(err, ErrDevice) {
		t.Errorf("Copy of a device = %v, want ErrDevice", err)
	}
	if _, err := os.Lstat(target + "/disk"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the device is on the host: %v", err)
	}
	if err := Pack(io.Discard, inside(t, root), "disk", Options{}); err != nil {
		t.Errorf("Pack of a device = %v", err)
	}
}

func TestWhatTheKernelMakesUpIsNotCopied(t *testing.T) {
	testenv.NeedRoot(t)
	container := inside(t, "/")
	for _, name := range []string{"/proc/1/status", "/proc/", "/sys/"} {
		if err := Pack(io.Discard, container, name, Options{}); !errors.Is(err, ErrKernelFile) {
			t.Errorf("Pack(%q) = %v, want ErrKernelFile", name, err)
		}
	}
	file := tree(t, "file=1") + "/file"
	for _, to := range []string{"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/new", "/sys/new"} {
		if err := Copy(Host, file, container, to, Options{}); !errors.Is(err, ErrKernelFile) {
			t.Errorf("Copy to %q = %v, want ErrKernelFile", to, err)
		}
	}
}

func TestWhoChangesTheOwnerDropsSetuid(t *testing.T) {
	testenv.NeedRoot(t)
	root := tree(t, "file=1")
	if err := errors.Join(
		os.Chown(root+"/file", 1000, 1001),
		os.Chmod(root+"/file", 0o755|os.ModeSetuid|os.ModeSetgid),
		unix.Setxattr(root+"/file", "user.other", []byte("x"), 0),
	); err != nil && !errors.Is(err, unix.ENOTSUP) {
		t.Fatal(err)
	}
	target := t.TempDir()
	for _, tt := range []struct {
		name string
		opts Options
		want string
	}{
		{"kept", Options{}, "1000:1001 106755"},
		{"given", Options{Owner: &Owner{7, 8}}, "7:8 100755"},
	} {
		if err := Copy(inside(t, root), "file", Host, target+"/"+tt.name, tt.opts); err != nil {
			t.Fatal(err)
		}
		var s unix.Stat_t
		if err := unix.Lstat(target+"/"+tt.name, &s); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%d:%d %o", s.Uid, s.Gid, s.Mode); got != tt.want {
			t.Errorf("%s: owner and mode are %s, want %s", tt.name, got, tt.want)
		}
		if _, err := unix.Getxattr(target+"/"+tt.name, "user.other", nil); err != unix.ENODATA && err != unix.ENOTSUP {
			t.Errorf("%s: the xattr user.other: %v, want that it is not copied", tt.name, err)
		}
	}
}

func TestAnArchiveThatLeadsOutIsRefused(t *testing.T) {
	host := tree(t, "secret=host")
	for _, entries := range [][]testenv.Entry{
		{testenv.File("../secret", "x")},
		{testenv.Symlink("l", host), testenv.File("l/secret", "x")},
		{testenv.Symlink("l", "../.."), testenv.File("l/secret", "x")},
	} {
		root := tree(t, "d/")
		if err := Unpack(bytes.NewReader(testenv.Tar(t, entries...)), inside(t, root), "/d", Options{}); err == nil {
			t.Errorf("Unpack of %q = nil, want an error", entries[len(entries)-1].Name)
		}
		if got := testenv.Tree(t, host); !strings.Contains(got, `secret -rw-r--r-- "host"`) {
			t.Errorf("the host's folder is now\n%s", got)
		}
	}
}

func TestAnArchiveGoesThroughAsItIs(t *testing.T) {
	source := tree(t, "d/", "d/a=1", "d/l -> a")
	if err := os.Link(source+"/d/a", source+"/d/b"); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := Pack(&archive, inside(t, source), "d", Options{}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := tar.NewReader(bytes.NewReader(archive.Bytes())); ; {
		header, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%c %s %s", header.Typeflag, header.Name, header.Linkname))
	}
	if want := []string{"5 d/ ", "0 d/a ", "1 d/b d/a", "2 d/l a"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("Pack wrote %q, want %q", got, want)
	}
	target := tree(t, "into/", "file=")
	if err := Unpack(&archive, inside(t, target), "into", Options{}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(target + "/into/d/b"); err != nil || info.Sys() == nil {
		t.Error(err)
	}
	if err := Unpack(&archive, inside(t, target), "file", Options{}); !errors.Is(err, ErrNotFolder) {
		t.Errorf("Unpack to a file = %v, want ErrNotFolder", err)
	}
}

// A thousand folders of long names in each other: all their names together are a hundred megabytes.
func TestFoldersOfLongNamesDoNotFillTheMemory(t *testing.T) {
	from, name := t.TempDir(), strings.Repeat("n", 255)
	at, err := os.OpenRoot(from)
	for range 1000 {
		if err == nil {
			err = at.Mkdir(name, 0o755)
		}
		if err == nil {
			above := at
			at, err = above.OpenRoot(name)
			above.Close()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	at.Close()
	if err := Copy(inside(t, from), "/"+name, Host, t.TempDir(), Options{}); !errors.Is(err, budget.ErrLimit) {
		t.Errorf("Copy = %.200v, want ErrLimit", err)
	}
}

func TestAnOwnerThatNoFileCanHaveIsRefused(t *testing.T) {
	testenv.NeedRoot(t)
	root, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, uid := range []int{1 << 32, 1<<32 + 5, -1} {
		archive := testenv.Tar(t, testenv.Entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: "file", Uid: uid, Mode: 0o755}})
		err := Unpack(bytes.NewReader(archive), Inside(root), "/", Options{})
		if err == nil || !strings.Contains(err.Error(), "no file can be that of user") {
			t.Errorf("Unpack of a file of user %d = %v, want that it is refused", uid, err)
		}
	}
}
