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
