//go:build linux

package merged

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestResolveEndsAtTheRoot(t *testing.T) {
	layer := t.TempDir()
	for name, target := range map[string]string{"abs": "/a/b", "rel": "a/../a/./b", "up": "../../a", "loop": "loop", "chain": "rel"} {
		if err := os.Symlink(target, filepath.Join(layer, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(layer, "a", "b"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"abs": "a/b", "/abs/c": "a/b/c", "rel/c": "a/b/c", "up/b": "a/b", "chain/..": "a", "..": ".", "": ".", "no/such/../x": "no/x"} {
		if got, err := (Stack{layer}).Resolve(name); err != nil || got != want {
			t.Errorf("Resolve(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
	if got, err := (Stack{layer}).Resolve("loop/x"); !errors.Is(err, unix.ELOOP) {
		t.Errorf("Resolve(loop/x) = %q, %v; want ELOOP", got, err)
	}
}

func TestWalkIsNoMatterOfDepth(t *testing.T) {
	const depth = 300 // and 128 files may be open
	folder := t.TempDir()
	at, want := ".", []string(nil)
	for range depth {
		if err := os.MkdirAll(filepath.Join(folder, at, "b", "c"), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{"a", "z"} { // before and after what lies deeper
			if err := os.WriteFile(filepath.Join(folder, at, file), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		at = filepath.Join(at, "b")
	}
	err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		want = append(want, strings.TrimPrefix(path, folder+"/"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 128, Max: files.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Setrlimit(unix.RLIMIT_NOFILE, &files) })
	var got []string
	err = Walk(folder, func(name string, dir *os.File, entry fs.DirEntry) error {
		got = append(got, name)
		_, err := os.Lstat(In(dir, entry.Name()))
		return err
	})
	if err != nil || !slices.Equal(got, want[1:]) {
		t.Errorf("Walk = %v and %d names, want %d", err, len(got), len(want)-1)
	}
}
