//go:build linux

package store

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/testenv"
	"gocker/step01-pull/shared/tree"
)

func TestPackIsTheWayBack(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	lower := testenv.Tar(t, testenv.Dir("a"), testenv.File("a/deleted", "1"), testenv.Dir("opaque"), testenv.File("opaque/hidden", "1"))
	upper := testenv.Tar(t, testenv.Dir("."), testenv.Dir("a"), testenv.File("a/.wh.deleted", ""), testenv.File("a/1", "one"), testenv.Link("a/2", "a/1"),
		testenv.Symlink("link", "a"), testenv.Dir("opaque"), testenv.File("opaque/.wh..wh..opq", ""), testenv.File("opaque/new", "2"))
	img := add(t, d, "app", testenv.Image(t, lower, upper))
	fs := img.Stack(d)[1]
	var packed, again bytes.Buffer
	for _, to := range []*bytes.Buffer{&packed, &again} {
		if err := Pack(to, fs); err != nil {
			t.Fatalf("Pack(%q) = %v", fs, err)
		}
	}
	if !bytes.Equal(packed.Bytes(), again.Bytes()) {
		t.Error("Pack twice gives different bytes")
	}
	want := []string{"./", "a/", "a/.wh.deleted", "a/1", "a/2", "link", "opaque/", "opaque/.wh..wh..opq", "opaque/new"}
	if got := testenv.Names(t, bytes.NewReader(packed.Bytes())); !slices.Equal(got, want) {
		t.Errorf("Pack writes %q, want %q", got, want)
	}
	other := add(t, d, "again", testenv.Image(t, lower, packed.Bytes()))
	facts, err := tree.ReadFacts(fs)
	if err != nil {
		t.Fatal(err)
	}
	back, err := tree.ReadFacts(other.Stack(d)[1])
	if err != nil {
		t.Fatal(err)
	}
	for fact, value := range facts {
		if whiteout := fact.Name == "a/deleted"; back[fact] != value && !whiteout {
			t.Errorf("after Pack and Add, %s of %q is %q, want %q", fact.What, fact.Name, back[fact], value)
		}
	}
}

func TestPackRefusesWhatNoLayerCanSay(t *testing.T) {
	testenv.NeedRoot(t)
	for name, tt := range map[string]struct {
		make func(dir string) error
		want error
	}{
		"a name like a whiteout's": {func(dir string) error { return os.WriteFile(filepath.Join(dir, ".wh.x"), nil, 0o644) }, ErrPack},
		"a folder that was moved": {func(dir string) error {
			return errors.Join(os.Mkdir(dir+"/x", 0o755), unix.Lsetxattr(dir+"/x", "trusted.overlay.redirect", []byte("/y"), 0))
		}, ErrPack},
		"a socket, which is left out": {func(dir string) error {
			l, err := net.Listen("unix", dir+"/s")
			if err == nil {
				t.Cleanup(func() { l.Close() })
			}
			return err
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "p") // a socket's name must be short
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			if err := tt.make(dir); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			if err := Pack(&out, dir); !errors.Is(err, tt.want) {
				t.Errorf("Pack = %v, want %v", err, tt.want)
			} else if names := testenv.Names(t, &out); err == nil && strings.Join(names, " ") != "./" {
				t.Errorf("Pack writes %q, want ./ alone", names)
			}
		})
	}
}

func TestFilesThatChangeMeanwhileDoNotStopAPack(t *testing.T) {
	dir := t.TempDir()
	done, stopped := make(chan bool), make(chan bool)
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			os.WriteFile(filepath.Join(dir, "file"), make([]byte, i%5*1000), 0o644)
			os.MkdirAll(filepath.Join(dir, "folder", "in"), 0o755)
			os.RemoveAll(filepath.Join(dir, "folder"))
		}
	}()
	defer func() { close(done); <-stopped }()
	for range 300 {
		var out bytes.Buffer
		if err := Pack(&out, dir); err != nil {
			t.Fatalf("Pack = %v", err)
		}
		for archive := tar.NewReader(&out); ; {
			if _, err := archive.Next(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("Pack wrote what is no archive: %v", err)
			}
		}
	}
}
