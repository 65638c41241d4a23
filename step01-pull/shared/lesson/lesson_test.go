package lesson

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"gocker/step01-pull/shared/dirs"
)

func TestFlagsOfTheCommandStayWithTheCommand(t *testing.T) {
	var d dirs.Dirs
	flags := Flags(&bytes.Buffer{}, &d, "stepNN", "")
	ref, err := Parse(flags, strings.Fields("--root /r --run /u alpine ls --root -l"))
	if err != nil || ref.String() != "alpine:latest" {
		t.Fatalf("Parse = %v, %v, want alpine:latest", ref, err)
	}
	if want := (dirs.Dirs{Root: "/r", Run: "/u"}); d != want {
		t.Errorf("folders are %v, want %v", d, want)
	}
	if got, want := Command(flags), []string{"ls", "--root", "-l"}; !slices.Equal(got, want) {
		t.Errorf("Command = %q, want %q", got, want)
	}
}

func TestWithoutWordsItIsAShellOfTheSample(t *testing.T) {
	var d dirs.Dirs
	flags := Flags(&bytes.Buffer{}, &d, "stepNN", "")
	ref, err := Parse(flags, nil)
	if err != nil || !ref.IsSample() || d != dirs.Default() {
		t.Errorf("Parse() = %v, %v, folders %v; want sample, %v", ref, err, d, dirs.Default())
	}
	if got, want := Command(flags), []string{"/bin/sh"}; !slices.Equal(got, want) {
		t.Errorf("Command = %q, want %q", got, want)
	}
}

func TestHelpAndUnknownFlagsShowTheUsage(t *testing.T) {
	for arg, want := range map[string]string{"-h": "", "--nonsense": "flag provided but not defined: -nonsense\n"} {
		var d dirs.Dirs
		var out bytes.Buffer
		err := Flags(&out, &d, "stepNN [flags] [IMAGE]", "Does a thing.").Parse([]string{arg})
		if err == nil || (arg == "-h") != errors.Is(err, flag.ErrHelp) {
			t.Errorf("Parse(%s) = %v", arg, err)
		}
		if got, want := out.String(), want+"Does a thing.\n\nusage: go run ./stepNN [flags] [IMAGE]\n\n  -root folder\n"; !strings.HasPrefix(got, want) {
			t.Errorf("Parse(%s) prints %q, want %q and so on", arg, got, want)
		}
	}
}

func TestEnterEndsWithEnterOrTheContext(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	Enter(ctx, r)
	w.WriteString("\n")
	w.Close()
	Enter(t.Context(), r) // hangs where it does not see the end
}

func TestSayWritesLines(t *testing.T) {
	var out bytes.Buffer
	Say(&out)("%d layers", 4)
	if got := out.String(); got != "4 layers\n" {
		t.Errorf("Say wrote %q", got)
	}
}
