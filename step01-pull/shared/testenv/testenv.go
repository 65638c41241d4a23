//go:build linux

// Package testenv is what the tests of all steps need: root, folders of their own, and proof that nothing stays.
package testenv

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/dirs"
)

// Dirs returns empty folders, and fails the test if at its end a container or a mount is left in them.
func Dirs(t testing.TB) dirs.Dirs {
	t.Helper()
	base := t.TempDir()
	d := dirs.Dirs{Root: filepath.Join(base, "root"), Run: filepath.Join(base, "run")}
	nothingLeft := Watch(t, d)
	t.Cleanup(func() { nothingLeft(t) })
	return d
}

// Watch returns a function that fails a test if a container, a mount or an unfinished folder is left below d, or a cgroup of a
// container that there has been since Watch. It tells them from those of other tests, which run at the same time, by their
// ids: it has seen the folders.
func Watch(t testing.TB, d dirs.Dirs) (nothingLeft func(testing.TB)) {
	t.Helper()
	if err := os.MkdirAll(d.Containers(), 0o700); err != nil {
		t.Fatal(err)
	}
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err == nil {
		_, err = unix.InotifyAddWatch(watch, d.Containers(), unix.IN_CREATE|unix.IN_MOVED_TO)
	}
	if err != nil {
		t.Fatalf("watch %q: %v", d.Containers(), err)
	}
	t.Cleanup(func() { unix.Close(watch) })
	var seen []byte
	return func(t testing.TB) {
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
		for events := make([]byte, 1<<16); ; {
			n, err := unix.Read(watch, events)
			if err != nil {
				break // there are no more
			}
			seen = append(seen, events[:n]...)
		}
		for _, path := range Cgroups(func(name string) bool {
			id, ours := strings.CutPrefix(name, "gocker-")
			return ours && bytes.Contains(seen, []byte(id+"\x00")) // an event ends with the name: see inotify(7)
		}) {
			t.Errorf("a cgroup is left: %s", path)
		}
	}
}

// Cgroups are the folders of all cgroups that have such names, outer ones first.
func Cgroups(has func(name string) bool) (found []string) {
	filepath.WalkDir("/sys/fs/cgroup", func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.IsDir() && has(entry.Name()) {
			found = append(found, path)
		}
		return nil // cgroups come and go while we walk
	})
	return found
}

func nothingUnfinished(t testing.TB, d dirs.Dirs) {
	t.Helper()
	for _, look := range [][2]string{{d.Containers(), "*"}, {d.AllLasting(), "*"}, {d.Layers(), ".*"}, {d.Images(), ".*"}, {d.AllTmp(), ".*"}, {d.AllTmp(), "*/.*"}} {
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
