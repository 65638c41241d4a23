package dirs

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestDefaultIsBelowVarOrTheUsersOwn(t *testing.T) {
	for _, name := range []string{"GOCKER_ROOT", "GOCKER_RUN", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", "/home/me")
	want := Dirs{"/home/me/.local/share/gocker", "/home/me/.local/share/gocker/run/gocker"}
	if os.Geteuid() == 0 {
		want = Dirs{"/var/lib/gocker", "/var/run/gocker"}
	}
	if got := Default(); got != want {
		t.Errorf("Default() = %v, want %v", got, want)
	}
	t.Setenv("GOCKER_ROOT", "/r")
	t.Setenv("GOCKER_RUN", "/u")
	if got, want := Default(), (Dirs{"/r", "/u"}); got != want {
		t.Errorf("Default() with GOCKER_ROOT and GOCKER_RUN = %v, want %v", got, want)
	}
}

func TestNamesAreThoseOfTheDocs(t *testing.T) {
	d := Dirs{"/r", "/u"}
	for got, want := range map[string]string{
		d.PackageTar("c059bfaa849c"):   "/r/tmp/c059bfaa849c/package.tar",
		d.ImagesJSON():                 "/r/images/images.json",
		d.Image("c059bfaa849c"):        "/r/images/c059bfaa849c",
		d.Layer("8d3ac348"):            "/r/layers/8d3ac348",
		d.Container("0123456789ab"):    "/u/containers/0123456789ab",
		Short("c059bfaa849c4d8e4aeca"): "c059bfaa849c",
		Short("c059"):                  "c059",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestWhatCannotBeListedIsNotAbsent(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "[odd]")
	for _, dir := range []string{"a", "b", "file"} {
		if err := os.MkdirAll(filepath.Join(folder, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a/link", "b/link"} {
		if err := os.Symlink("../file", filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(folder, "plain"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{filepath.Join(folder, "a/link"): "../file", filepath.Join(folder, "b/link"): "../file"}
	if got, err := Links(folder, "*/*"); err != nil || !maps.Equal(got, want) {
		t.Errorf("Links = %q, %v, want %q", got, err, want)
	}
	if got, err := Glob(filepath.Join(folder, "none"), "*"); err != nil || got != nil {
		t.Errorf("Glob in no folder = %q, %v, want nothing", got, err)
	}
	for _, pattern := range []string{"*", "name"} {
		if got, err := Glob(filepath.Join(folder, "plain"), pattern); err == nil {
			t.Errorf("Glob(%q) in a file = %q, want an error", pattern, got)
		}
	}
	if got, err := Glob(folder, "*/link"); err != nil || !slices.Equal(got, []string{filepath.Join(folder, "a/link"), filepath.Join(folder, "b/link")}) {
		t.Errorf("Glob of a name = %q, %v", got, err)
	}
	// Root may read everything, but not even root follows a link to itself.
	if err := os.Symlink("loop", filepath.Join(folder, "loop")); err != nil {
		t.Fatal(err)
	}
	if got, err := Links(folder, "*/*"); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("Links with a folder that cannot be read = %q, %v, want ELOOP", got, err)
	}
}

func TestBelowKnowsAFolderByAllItsNames(t *testing.T) {
	base := t.TempDir()
	for _, dir := range []string{"real/volumes/v/_data", "real/volumes2", "disk/w/_data"} {
		if err := os.MkdirAll(filepath.Join(base, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"link": "real", "direct": "real/volumes/v/_data", "real/volumes/w": filepath.Join(base, "disk/w")} {
		if err := os.Symlink(target, filepath.Join(base, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(base, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"real/volumes/v/_data": "v/_data",
		"link/volumes/v/_data": "v/_data",
		"link/volumes/v/gone":  "v/gone",
		"direct":               "v/_data",
		"link/volumes/w/_data": "w/_data", // its own files lie elsewhere
		"real/volumes2":        "",
		"real":                 "",
		"none":                 "",
		"file/none":            "",
	} {
		for _, folder := range []string{"real/volumes", "link/volumes"} {
			got, below, err := Below(filepath.Join(base, folder), filepath.Join(base, file))
			if got != want || below != (want != "") || err != nil {
				t.Errorf("Below(%q, %q) = %q, %v, %v, want %q", folder, file, got, below, err, want)
			}
		}
	}
	if got, below, err := Below(filepath.Join(base, "nothing"), base); below || err != nil {
		t.Errorf("Below what is not there = %q, %v, %v, want nothing", got, below, err)
	}
}

func TestOneHoldsALockAndManyAShared(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	held, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := TryLock(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("TryLock of a held folder = %v, want ErrLocked", err)
	}
	held.Close()
	for range 2 {
		shared, err := LockShared(dir)
		if err != nil {
			t.Errorf("LockShared = %v", err)
		}
		defer shared.Close()
	}
	if _, err := TryLock(dir); !errors.Is(err, ErrLocked) {
		t.Errorf("TryLock of a shared folder = %v, want ErrLocked", err)
	}
	if _, err := LockShared(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("LockShared of no folder = %v, want ErrNotExist", err)
	}
}

// Each holder removes the folder, as Add does with tmp/{image}: whoever waited must not hold a folder that is gone.
func TestLocksHoldTheFolderThatHasTheName(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a")
	var all sync.WaitGroup
	var inside atomic.Int32
	for range 50 {
		all.Go(func() {
			lock, err := Lock(dir)
			if err != nil {
				t.Errorf("Lock = %v", err)
				return
			}
			defer lock.Close()
			if n := inside.Add(1); n != 1 {
				t.Errorf("%d hold the lock, want 1", n)
			}
			inside.Add(-1)
			if err := os.Remove(dir); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

func TestAPartialHasItsNameOnlyWhenFinished(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "new")
	final := filepath.Join(parent, "name")
	p, err := NewPartial(parent)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.Path, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(final); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Stat before Finish = %v, want ErrNotExist", err)
	}
	if err := p.Finish(final); err != nil {
		t.Fatal(err)
	}
	p.Discard() // as a defer does
	if _, err := os.Stat(filepath.Join(final, "file")); err != nil {
		t.Errorf("after Finish and Discard: %v", err)
	}
	second, err := NewPartial(parent)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Finish(final); !errors.Is(err, os.ErrExist) {
		t.Errorf("Finish to a name that is taken = %v, want ErrExist", err)
	}
	second.Discard()
	if left, _ := filepath.Glob(filepath.Join(parent, partial+"*")); len(left) > 0 {
		t.Errorf("after Discard: %q, want nothing", left)
	}
}

func TestPartialsOfTheDeadAreRemovedAndThoseOfTheLivingStay(t *testing.T) {
	parent := t.TempDir()
	dead := filepath.Join(parent, partial+"dead")
	if err := os.MkdirAll(filepath.Join(dead, "deep", "er"), 0o700); err != nil {
		t.Fatal(err)
	}
	living, err := NewPartial(parent)
	if err != nil {
		t.Fatal(err)
	}
	defer living.Discard()
	if _, err := os.Stat(dead); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the dead one: %v, want ErrNotExist", err)
	}
	second, err := NewPartial(parent)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Discard()
	if _, err := os.Stat(living.Path); err != nil {
		t.Errorf("the living one: %v", err)
	}
}

func TestManyMayMakePartialsAtOnce(t *testing.T) {
	parent := t.TempDir()
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range 20 {
				p, err := NewPartial(parent)
				if err != nil {
					t.Errorf("NewPartial = %v", err)
					return
				}
				if err := os.WriteFile(filepath.Join(p.Path, "file"), nil, 0o644); err != nil {
					t.Errorf("somebody removed a partial of the living: %v", err)
				}
				p.Discard()
			}
		})
	}
	all.Wait()
	if left, _ := os.ReadDir(parent); len(left) > 0 {
		t.Errorf("left: %v, want nothing", left)
	}
}

func TestRemoveAllTakesTheNameFirst(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "a")
	if err := os.MkdirAll(filepath.Join(dir, "b", "c"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := RemoveAll(dir); err != nil {
		t.Errorf("RemoveAll = %v", err)
	}
	if left, _ := os.ReadDir(parent); len(left) > 0 {
		t.Errorf("left: %v, want nothing", left)
	}
	if err := RemoveAll(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("RemoveAll of nothing = %v, want ErrNotExist", err)
	}
}

func TestLockWaitsForItsHolder(t *testing.T) {
	dir := t.TempDir()
	held, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan *os.File)
	go func() {
		lock, err := Lock(dir)
		if err != nil {
			t.Errorf("Lock = %v", err)
		}
		got <- lock
	}()
	select {
	case <-got:
		t.Fatal("a second Lock did not wait")
	case <-time.After(20 * time.Millisecond):
	}
	held.Close()
	(<-got).Close()
}

func TestLockBelowALinkToNothingFails(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/nothing/here", link); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{link, filepath.Join(link, "containers", "x")} {
		if lock, err := Lock(folder); !errors.Is(err, os.ErrExist) {
			t.Errorf("Lock(%q) = %v, %v, want ErrExist", folder, lock, err)
		}
	}
}

func TestImageIsTwelveHexDigits(t *testing.T) {
	for s, want := range map[string]bool{"c059bfaa849c": true, "c059bfaa849": false, "c059bfaa849cc": false, "C059BFAA849C": false, "../059bfaa849": false, "": false} {
		if got := IsImage(s); got != want {
			t.Errorf("IsImage(%q) = %v, want %v", s, got, want)
		}
	}
}

func TestRemoveAllIsNoMatterOfDepth(t *testing.T) {
	const depth = 300 // and 64 files may be open
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 64, Max: files.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Setrlimit(unix.RLIMIT_NOFILE, &files) })
	parent := t.TempDir()
	for what, remove := range map[string]func(folder string) error{
		"RemoveAll": RemoveAll,
		"RemoveLocked": func(folder string) error {
			lock, err := Lock(folder)
			if err == nil {
				defer lock.Close()
				err = RemoveLocked(folder)
			}
			return err
		},
	} {
		dir := filepath.Join(parent, "a")
		for _, folder := range []string{"", ".moved-1/x", ".moved-2"} { // the names that folders get which move up
			if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		at, err := os.OpenRoot(dir)
		for range depth {
			if err == nil {
				err = errors.Join(at.WriteFile("file", nil, 0o644), at.Symlink("/etc", "link"), at.Mkdir("empty", 0o755), at.Mkdir("d", 0o755))
			}
			if err != nil {
				t.Fatal(err)
			}
			var below *os.Root
			below, err = at.OpenRoot("d")
			at.Close()
			at = below
		}
		at.Close()
		if err := remove(dir); err != nil {
			t.Errorf("%s = %v", what, err)
		}
		if left, _ := os.ReadDir(parent); len(left) > 0 {
			t.Errorf("after %s: %v, want nothing", what, left)
		}
	}
}
