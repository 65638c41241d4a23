//go:build linux

package lesson

import (
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/testenv"
)

func parse(t testing.TB, s string) pull.Reference {
	t.Helper()
	ref, err := pull.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func TestFindKnowsWhatWasSaved(t *testing.T) {
	d := testenv.Dirs(t)
	img := testenv.Image(t, testenv.Tar(t, testenv.File("a", "1")))
	hash, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"app:v1", "app@" + hash.String()} {
		ref := parse(t, name)
		if image, _, err := FindPackage(d, ref); err != nil || image != "" {
			t.Errorf("FindPackage(%s) before Save = %q, %v; want nothing", ref, image, err)
		}
		saved, lock, err := pull.Save(d, ref, img, pull.Newer)
		if err != nil {
			t.Fatal(err)
		}
		lock.Close()
		image, lock, err := FindPackage(d, ref)
		if err != nil || image != saved {
			t.Fatalf("FindPackage(%s) = %q, %v; want %q", ref, image, err, saved)
		}
		if _, err := dirs.TryLock(d.Tmp(image)); !errors.Is(err, dirs.ErrLocked) {
			t.Errorf("TryLock after Find = %v, want ErrLocked", err)
		}
		lock.Close()
	}
}

// A second command waits for the first, which then unpacks the image and removes what both wanted.
func TestFindDoesNotFindWhatWasRemovedWhileItWaited(t *testing.T) {
	d := testenv.Dirs(t)
	ref := parse(t, "app")
	image, lock, err := pull.Save(d, ref, testenv.Image(t), pull.Newer)
	if err != nil {
		t.Fatal(err)
	}
	var waiting sync.WaitGroup
	for range 4 {
		waiting.Go(func() {
			if image, _, err := FindPackage(d, ref); err != nil || image != "" {
				t.Errorf("Find = %q, %v; want nothing", image, err)
			}
		})
	}
	// Whether they look before or after it is gone: the answer is the same.
	if err := dirs.RemoveAll(d.Tmp(image)); err != nil {
		t.Error(err)
	}
	lock.Close()
	waiting.Wait()
	if left := testenv.Ls(t, d.AllTmp()); len(left) > 0 {
		t.Errorf("tmp has %q, want nothing", left)
	}
}

func TestPackageSaysThatItPulls(t *testing.T) {
	d := testenv.Dirs(t)
	var said []string
	say := func(format string, _ ...any) { said = append(said, format) }
	first, lock, err := Package(t.Context(), d, parse(t, pull.Sample), say)
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
	second, lock, err := Package(t.Context(), d, parse(t, pull.Sample), say)
	if err != nil {
		t.Fatal(err)
	}
	lock.Close()
	if first != second || len(said) != 1 || !strings.Contains(said[0], "pulling it, as step01-pull does") {
		t.Errorf("Package twice = %s, %s, and said %q; want one image and one word", first, second, said)
	}
	// What step 2 and 3 leave on a crash lies in a folder of its own.
	if got := testenv.Ls(t, filepath.Join(d.Tmp(first))); len(got) != 2 {
		t.Errorf("tmp/%s has %q, want package.tar and reference", first, got)
	}
}
