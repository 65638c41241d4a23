//go:build linux

package changeset

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/testenv"
	"gocker/step02-untar/budget"
	"gocker/step03-layers/merged"
)

// What a fuzzer's layers may become.
var few = budget.Limits{Bytes: 4 << 20, Entries: 1000}

func FuzzLayers(f *testing.F) {
	testenv.NeedRoot(f)
	lower := testenv.Tar(f, dir("d"), file("d/a", "1"), symlink("l", "/d"), file("b", "2"))
	for _, upper := range [][]byte{
		testenv.Tar(f, file("d/.wh.a", ""), link("c", "l/a"), file("l/e", "3")),
		testenv.Tar(f, file(".wh..wh..opq", ""), dir("d"), file("d/.wh..wh..opq", "")),
		testenv.Tar(f, symlink("door", "/outside"), file("door/secret", "led out\n"), file("door/.wh.secret", "")),
	} {
		f.Add(lower, upper)
	}
	f.Fuzz(func(t *testing.T, lower, upper []byte) {
		tryLayers(t, testenv.Repair(lower), testenv.Repair(upper))
	})
}

func FuzzLayersOfEntries(f *testing.F) {
	testenv.NeedRoot(f)
	f.Add([]byte("\x01\x00\x00\x10\x01\x00\x01\x00\x01\x10\x01"), []byte("\x00\x01\x00\x07\x10\x01\x03\x00\x02\x00\x00\x00\x01\x10\x01"))
	f.Fuzz(func(t *testing.T, lower, upper []byte) {
		tryLayers(t, testenv.Tar(t, testenv.Entries(lower)...), testenv.Tar(t, testenv.Entries(upper)...))
	})
}

// tryLayers unpacks two layers over each other. They may be refused; nothing but their own folders may be touched, and
// what overlayfs obeys is only what gocker has told it.
func tryLayers(t *testing.T, archives ...[]byte) {
	base := t.TempDir()
	if err := os.Mkdir(filepath.Join(base, "outside"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(base, "outside", "secret"), []byte("keep out\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	before := testenv.Tree(t, base)
	var below merged.Stack
	for i, archive := range archives {
		layer := filepath.Join(base, string(rune('0'+i)))
		_, err := Unpack(bytes.NewReader(archive), layer, func() (merged.Stack, error) { return below, nil }, few.Budget())
		if err != nil && (errors.Is(err, unix.EFAULT) || errors.Is(err, unix.EBADF)) {
			t.Errorf("Unpack = %v", err)
		}
		if err != nil {
			below = append(below, layer)
			break
		}
		honest(t, layer, below)
		below = append(below, layer)
	}
	for _, layer := range below {
		if err := os.RemoveAll(layer); err != nil {
			t.Fatal(err)
		}
	}
	if after := testenv.Tree(t, base); after != before {
		t.Errorf("the layers left\n%swant what was there before\n%s", after, before)
	}
}

// honest fails the test if a layer has a whiteout of nothing, or words for overlayfs that gocker does not know.
func honest(t *testing.T, layer string, below merged.Stack) {
	err := filepath.WalkDir(layer, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == layer {
			return err
		}
		name := strings.TrimPrefix(path, layer+"/")
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if merged.IsWhiteout(info) {
			if i, _ := below.Find(name); i < 0 {
				t.Errorf("%q is a whiteout of nothing", name)
			}
		}
		if strings.HasPrefix(entry.Name(), WhiteoutPrefix) {
			t.Errorf("%q is unpacked", name)
		}
		all, err := merged.Xattrs(path)
		for xattr := range all {
			if merged.IsOverlays(xattr) && xattr != merged.OpaqueXattr() {
				t.Errorf("%q has %s", name, xattr)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
