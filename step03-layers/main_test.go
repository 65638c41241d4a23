//go:build linux

package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/lesson"
	"gocker/step01-pull/shared/testenv"
	"gocker/step02-untar/untar"
	"gocker/step03-layers/local"
)

const beStep = "GOCKER_TEST_BE_STEP"

func TestMain(m *testing.M) {
	if os.Getenv(beStep) != "" {
		main()
		return
	}
	testenv.Alone()
	os.Exit(m.Run())
}

func output(t *testing.T, d dirs.Dirs, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	if err := run(t.Context(), nil, &out, append([]string{"--root", d.Root, "--run", d.Run}, args...)); err != nil {
		t.Fatalf("run(%q) = %v", args, err)
	}
	return out.String()
}

func TestRunGoesTheWholeRoadWhereNothingIsThere(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	out := output(t, d)
	testenv.InOrder(t, out,
		"There is no package.tar of sample:latest yet: pulling it, as step01-pull does\n",
		"package.tar is not unpacked yet: doing it, as step02-untar does\n",
		"1. Reading manifest.json in "+d.AllTmp(), "4 layers\n",
		"2. Unpacking each layer",
		"layer 1 ", " 0 updated, 0 deleted\n", "digest   sha256:", "diffID   sha256:", "chainID  sha256:",
		"layer 3 ", "2 added, 1 updated, 0 deleted\n",
		"layer 4 ", "1 added, 0 updated, 2 deleted\n",
		"3. Keeping manifest, config and links to the layers in "+d.Images(), " -> ../../layers/", ".json\n", "manifest.json\n",
		"4. Entering the image in "+d.ImagesJSON(), "NAME", "sample  latest  ",
		"5. Removing "+d.AllTmp(),
		"\nnext: go run ./step04-overlay sample\n")
}

func TestRunPicksUpWhatTheStepsBeforeLeft(t *testing.T) {
	testenv.NeedRoot(t)
	for _, unpacked := range []bool{false, true} {
		d := testenv.Dirs(t)
		ref, err := pull.ParseReference("sample")
		if err != nil {
			t.Fatal(err)
		}
		image, lock, err := lesson.Package(t.Context(), d, ref, lesson.Say(&bytes.Buffer{}))
		if err == nil && unpacked {
			err = untar.Package(d, image)
		}
		if err != nil {
			t.Fatal(err)
		}
		lock.Close()
		out := output(t, d)
		if strings.Contains(out, "as step01-pull does") || strings.Contains(out, "as step02-untar does") == unpacked {
			t.Errorf("after step 1, and step 2: %v, run says\n%s", unpacked, out)
		}
	}
}

func TestRunListsAndRemoves(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	const nothing = "   NAME  TAG  IMAGE\n"
	if got := output(t, d, "--list"); got != nothing {
		t.Errorf("--list of nothing prints %q, want %q", got, nothing)
	}
	output(t, d)
	testenv.InOrder(t, output(t, d, "--list"), "NAME", "sample  latest  ")
	out := output(t, d, "--remove", "sample")
	testenv.InOrder(t, out, "Untagged: sample:latest\n", "Deleted: ", "Deleted: ", "Deleted: ", "Deleted: ", "Deleted: ")
	if got := output(t, d, "--list"); got != nothing {
		t.Errorf("--list after --remove prints %q, want %q", got, nothing)
	}
	err := run(t.Context(), nil, &bytes.Buffer{}, []string{"--root", d.Root, "--run", d.Run, "--remove", "sample"})
	if !errors.Is(err, local.ErrNoImage) {
		t.Errorf("a second --remove = %v, want ErrNoImage", err)
	}
}

func TestAnOrdinaryUserHasLayers(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap")
	u := testenv.OrdinaryUser(t, testenv.Subids())
	out, err := u.Command([]string{beStep + "=1"}, "/proc/self/exe").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d := dirs.Dirs{Root: u.Home + "/.local/share/gocker"}
	testenv.InOrder(t, string(out), "0. User 61234 is not root", "2. Unpacking each layer", "layer 4 ", "1 added, 0 updated, 2 deleted\n",
		"4. Entering the image in "+d.ImagesJSON(), "sample  latest  ")
}

func TestRunRemovesWhatCrashesHaveLeft(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	remains := []string{filepath.Join(d.AllTmp(), ".partial-1"), filepath.Join(d.Images(), ".partial-2"), d.Layer(strings.Repeat("0", 64))}
	for _, folder := range remains {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	output(t, d)
	for _, folder := range remains {
		if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after a run, %s is there: %v", folder, err)
		}
	}
}
