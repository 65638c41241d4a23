//go:build linux

// Package testenv is what the tests of all steps need: root, folders of their own, and proof that nothing stays.
package testenv

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/dirs"
)

// Dirs returns empty folders, and fails the test if at its end a container or a mount is left in them.
func Dirs(t testing.TB) dirs.Dirs {
	t.Helper()
	base := t.TempDir()
	d := dirs.Dirs{Root: filepath.Join(base, "root"), Run: filepath.Join(base, "run")}
	t.Cleanup(func() { NothingLeft(t, d) })
	return d
}

// NothingLeft fails the test if a container, a mount or an unfinished folder is left below d, or a cgroup of a
// container that nobody is in.
func NothingLeft(t testing.TB, d dirs.Dirs) {
	t.Helper()
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil {
		t.Error(err)
	} else {
		for line := range strings.Lines(string(mounts)) {
			if strings.Contains(line, d.Run) || strings.Contains(line, d.Root) {
				t.Errorf("a mount is left: %s", line)
			}
		}
	}
	nothingUnfinished(t, d)
	for path := range leftCgroups() {
		t.Errorf("a cgroup is left: %s", path)
	}
}

// leftCgroups are those of containers that nobody is in any more. Other packages' tests run at the same time, and their cgroups
// have processes. An empty one that stays is a leak.
func leftCgroups() map[string]bool {
	deadline := time.Now().Add(5 * time.Second)
	left := emptyCgroups()
	for len(left) > 0 && time.Now().Before(deadline) {
		time.Sleep(50 * time.Millisecond)
		now := emptyCgroups()
		for path := range left {
			if !now[path] {
				delete(left, path)
			}
		}
	}
	return left
}

func nothingUnfinished(t testing.TB, d dirs.Dirs) {
	t.Helper()
	for _, look := range [][2]string{{d.Containers(), "*"}, {d.Layers(), ".*"}, {d.Images(), ".*"}, {d.AllTmp(), ".*"}, {d.AllTmp(), "*/.*"}} {
		left, err := dirs.Glob(look[0], look[1])
		if err != nil || len(left) > 0 {
			t.Errorf("left behind: %v %v", left, err)
		}
	}
}

// SmallDisk is Dirs with the root on a file system of its own that is soon full.
func SmallDisk(t testing.TB, bytes int) dirs.Dirs {
	t.Helper()
	NeedRoot(t)
	d := Dirs(t)
	if err := os.MkdirAll(d.Root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", d.Root, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		t.Fatalf("mount tmpfs on %q: %v", d.Root, err)
	}
	t.Cleanup(func() {
		nothingUnfinished(t, d)
		if err := unix.Unmount(d.Root, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %q: %v", d.Root, err)
		}
	})
	return d
}

// containerCgroup is the name of a container's cgroup. Those that the tests of package cgroups make have others.
var containerCgroup = regexp.MustCompile(`^gocker-[0-9a-f]{12}$`)

func emptyCgroups() map[string]bool {
	empty := map[string]bool{}
	filepath.WalkDir("/sys/fs/cgroup", func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.IsDir() || !containerCgroup.MatchString(entry.Name()) {
			return nil // cgroups come and go while we walk
		}
		if procs, err := os.ReadFile(filepath.Join(path, "cgroup.procs")); err == nil && len(procs) == 0 {
			empty[path] = true
		}
		return nil
	})
	return empty
}

// Output runs a lesson and returns what it wrote. It writes to a file, not to a buffer: a container's process writes
// there at the same time.
func Output(t testing.TB, run func(stdout *os.File) error) (string, error) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	runErr := run(out)
	written, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(written), runErr
}

// InOrder fails the test where output lacks one of the parts, or has them in another order.
func InOrder(t testing.TB, output string, parts ...string) {
	t.Helper()
	rest := output
	for _, part := range parts {
		_, after, found := strings.Cut(rest, part)
		if !found {
			t.Fatalf("the output has no %q after what was looked for before:\n%s", part, output)
		}
		rest = after
	}
}
