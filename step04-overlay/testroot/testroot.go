//go:build linux

// Package testroot has a root file system for the tests of what runs in one: the sample image's.
package testroot

import (
	"os"
	"testing"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/testenv"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/road"
	"gocker/step04-overlay/overlay"
)

// root is where the sample image is, for all tests of a program: each has its own containers.
var root string

// Run is m.Run in the process that testenv.Alone leaves, and removes the sample image at the end.
func Run(m *testing.M) int {
	testenv.Alone()
	defer func() { os.RemoveAll(root) }()
	return m.Run()
}

// Mount mounts the sample image for a test.
func Mount(t testing.TB) *overlay.FS {
	t.Helper()
	testenv.NeedRoot(t)
	d, img := Sample(t)
	return MountImage(t, d, img)
}

// Sample returns folders that have the sample image and no container.
func Sample(t testing.TB) (dirs.Dirs, layers.Image) {
	t.Helper()
	if root == "" {
		var err error
		if root, err = os.MkdirTemp("", "gocker-test-"); err != nil {
			t.Fatal(err)
		}
	}
	d := testenv.Dirs(t)
	d.Root = root
	ref, err := pull.ParseReference(pull.Sample)
	if err != nil {
		t.Fatal(err)
	}
	img, err := road.Get(t.Context(), d, ref, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	return d, img
}

// MountImage mounts an image for a test.
func MountImage(t testing.TB, d dirs.Dirs, img layers.Image) *overlay.FS {
	t.Helper()
	f, err := overlay.Create(d, img)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Remove(); err != nil {
			t.Error(err)
		}
	})
	if err := f.Mount(); err != nil {
		t.Fatal(err)
	}
	return f
}
