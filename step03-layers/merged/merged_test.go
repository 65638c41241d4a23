//go:build linux

package merged

import (
	"errors"
	"os"
	"path/filepath"
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
