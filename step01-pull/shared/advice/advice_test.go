package advice

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
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
