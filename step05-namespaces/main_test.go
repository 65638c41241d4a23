//go:build linux

package main

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"gocker/step01-pull/shared/lesson"
	"gocker/step01-pull/shared/testenv"
	"gocker/step05-namespaces/namespaces"
)

func TestMain(m *testing.M) {
	testenv.Alone()
	os.Exit(m.Run())
}

func TestRunEndsWithTheCommandsStatus(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	out, err := testenv.Output(t, func(stdout *os.File) error {
		return run(t.Context(), nil, stdout, []string{"--root", d.Root, "--run", d.Run, "sample", "sh", "-c", "echo I am $$; exit 7"})
	})
	var exit lesson.Exit
	if !errors.As(err, &exit) || exit != 7 {
		t.Errorf("run = %v, want exit status 7", err)
	}
	for _, want := range []string{
		"There is no image sample:latest yet", "I am 1\n", "container ", "host ", "ended with status 7",
		"next: go run ./step06-cgroups sample",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("want %q in\n%s", want, out)
		}
	}
}

func TestRunLeavesNothingAfterAnError(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t) // looks at its end
	err := run(t.Context(), nil, io.Discard, []string{"--root", d.Root, "--run", d.Run, "sample", "no-such-command"})
	if !errors.Is(err, namespaces.ErrNotFound) {
		t.Errorf("run = %v, want ErrNotFound", err)
	}
}
