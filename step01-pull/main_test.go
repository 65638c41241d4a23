//go:build linux

package main

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/lesson"
	"gocker/step01-pull/shared/testenv"
)

func TestRunSaysWhatItDidAndWhatIsNext(t *testing.T) {
	d := testenv.Dirs(t)
	var out bytes.Buffer
	if err := run(t.Context(), nil, &out, []string{"--root", d.Root, "--run", d.Run}); err != nil {
		t.Fatal(err)
	}
	image, lock, err := lesson.FindPackage(d, must(t, "sample"))
	if err != nil || image == "" {
		t.Fatalf("Find = %q, %v; want what run has saved", image, err)
	}
	defer lock.Close()
	testenv.InOrder(t, out.String(),
		"1. The reference sample is short for index.docker.io/library/sample:latest",
		"2. Its manifest", "manifest  sha256:", "config    sha256:"+image, "layer 1 ", "layer 2 ", "layer 3 ", "layer 4 ",
		"3. Config and layers", image,
		d.PackageTar(image), "MB\n",
		"\nnext: go run ./step02-untar sample\n")
}

func TestRunRefusesWhatMakesNoSense(t *testing.T) {
	d := testenv.Dirs(t)
	for _, tt := range []struct {
		what string
		args []string
		want string
	}{
		{"malformed reference", []string{"Alpine"}, "not an image reference"},
		{"platform that is none", []string{"--platform", "a/b/c/d"}, "--platform"},
		{"another platform", []string{"--platform", "linux/mips"}, "not made for this platform"},
		{"unknown flag", []string{"--nonsense"}, "nonsense"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			err := run(t.Context(), nil, &bytes.Buffer{}, append([]string{"--root", d.Root}, tt.args...))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("run(%q) = %v, want %q", tt.args, err, tt.want)
			}
			if _, err := os.Stat(d.Root); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("run(%q) made the root: %v", tt.args, err)
			}
		})
	}
}

func must(t *testing.T, s string) pull.Reference {
	t.Helper()
	ref, err := pull.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}
