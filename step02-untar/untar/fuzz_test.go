package untar

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gocker/step01-pull/shared/testenv"
	"gocker/step02-untar/budget"
)

// What a fuzzer's archive may become.
var few = budget.Limits{Bytes: 4 << 20, Entries: 1000}

func FuzzUnpack(f *testing.F) {
	for _, seed := range [][]byte{
		testenv.Tar(f, file("a", "1"), dir("d"), symlink("d/l", "../a"), link("b", "a"), file("d/c", "2")),
		testenv.Tar(f, symlink("door", "../../outside"), file("door/secret", "led out\n")),
		testenv.Tar(f, file(strings.Repeat("long/", 50)+"a", "1")),
		gz(f, testenv.Tar(f, file("a", "1"))),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, archive []byte) { tryUnpack(t, testenv.Repair(archive)) })
}

func FuzzUnpackEntries(f *testing.F) {
	f.Add([]byte("\x02\x00\x00\x00\x00\x00\x0c\x01\x00\x01\x00\x0b"))
	f.Fuzz(func(t *testing.T, data []byte) { tryUnpack(t, testenv.Tar(t, testenv.Entries(data)...)) })
}

func tryUnpack(t *testing.T, archive []byte) {
	base, _, to := house(t, nil)
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	before := testenv.Tree(t, base)
	if err := os.Mkdir(to, 0o755); err != nil {
		t.Fatal(err)
	}
	err := Unpack(bytes.NewReader(archive), to, few)
	if err == nil {
		inside(t, to)
	}
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if after := testenv.Tree(t, base); after != before {
		t.Errorf("Unpack = %v, and left\n%swant what was there before\n%s", err, after, before)
	}
}

// inside fails the test if a link below to leads out of it.
func inside(t *testing.T, to string) {
	err := filepath.WalkDir(to, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.Type()&os.ModeSymlink == 0 {
			return err
		}
		if at, err := filepath.EvalSymlinks(path); err == nil && at != to && !strings.HasPrefix(at, to+"/") {
			t.Errorf("%s leads to %s", path, at)
		}
		return nil
	})
	if err != nil && !errors.Is(err, os.ErrPermission) {
		t.Error(err)
	}
}
