package advice

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestAdviceIsApartFromTheMessage(t *testing.T) {
	err := fmt.Errorf("mount: %w", Add(fmt.Errorf("open: %w", fs.ErrPermission), "run it as %s", "root"))
	if got, want := err.Error(), "mount: open: permission denied"; got != want {
		t.Errorf("Error() = %q, want %q", got, want)
	}
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("%v is not %v any more", err, fs.ErrPermission)
	}
	if got, want := Of(err), "run it as root"; got != want {
		t.Errorf("Of = %q, want %q", got, want)
	}
	if got, want := Print("gocker", err), "gocker: mount: open: permission denied\n  run it as root\n"; got != want {
		t.Errorf("Print = %q, want %q", got, want)
	}
	if got, want := Print("gocker", fs.ErrExist), "gocker: file already exists\n"; got != want {
		t.Errorf("Print without advice = %q, want %q", got, want)
	}
}

func TestWhatIsQuotedIsCut(t *testing.T) {
	long := strings.Repeat("ä", 1<<20)
	for what, err := range map[string]error{
		"a word":        fmt.Errorf("no such image: %q: not found", long),
		"many words":    fmt.Errorf("the server says %q", strings.Repeat("word ", 1<<20)),
		"in its advice": Add(fs.ErrExist, "gocker pull %s", long),
		"two words":     fmt.Errorf("%s is not %s: not found", long, long),
	} {
		got := Print("gocker", err)
		if len(got) > 2500 || !strings.Contains(got, "…") || !utf8.ValidString(got) || strings.HasSuffix(err.Error(), "found") != strings.HasSuffix(got, "not found\n") {
			t.Errorf("%s: an error of %d bytes: %.200s", what, len(got), got)
		}
	}
	path := "/" + strings.Repeat("a", 255) + "/" + strings.Repeat("b", 200)
	if got := Short(path); got != path {
		t.Errorf("Short(%s) = %s", path, got)
	}
}

func TestEachOfSeveralErrorsHasItsAdvice(t *testing.T) {
	see := func(name string) error { return Add(fmt.Errorf("no such container: %s", name), "see: gocker ps") }
	running := Add(errors.New("it is running"), "stop it")
	err := errors.Join(running, errors.Join(see("a"), see("b")), fs.ErrExist, fmt.Errorf("start: %w: %w", fs.ErrInvalid, running))
	want := `gocker: it is running
  stop it
gocker: no such container: a
gocker: no such container: b
  see: gocker ps
gocker: file already exists
gocker: start: invalid argument: it is running
  stop it
`
	if got := Print("gocker", err); got != want {
		t.Errorf("Print = %s, want %s", got, want)
	}
}
