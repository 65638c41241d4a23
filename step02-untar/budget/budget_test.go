package budget

import (
	"archive/tar"
	"errors"
	"io"
	"strings"
	"testing"

	"gocker/step01-pull/shared/advice"
)

func TestWhatIsMoreThanItMayIsRefused(t *testing.T) {
	for what, use := range map[string]func() error{
		"bytes":       func() error { return read(Limits{Bytes: 10}.Budget(), 11) },
		"entries":     func() error { return enter(Limits{Entries: 2}.Budget(), 0, 0, 0) },
		"sparse file": func() error { return enter(Limits{}.Budget(), maxBytes+1) },
		"overflow":    func() error { return enter(Limits{}.Budget(), 1<<62+1, 1<<62+1) },
		"bomb":        func() error { return read(Limits{}.Budget(), maxPacked+1) }, // of nothing that was sent
	} {
		if err := use(); !errors.Is(err, ErrLimit) || advice.Of(err) == "" {
			t.Errorf("%s: %v, want ErrLimit and advice", what, err)
		}
	}
	for what, err := range map[string]error{
		"as many bytes":   read(Limits{Bytes: 10}.Budget(), 10),
		"as many entries": enter(Limits{Entries: 2}.Budget(), 0, 0),
		"few folders":     CheckDepth("a/b/c", 2),
	} {
		if err != nil {
			t.Errorf("%s: %v, want nil", what, err)
		}
	}
	if err := CheckDepth("a/b/c/d", 2); !errors.Is(err, ErrLimit) {
		t.Errorf("CheckDepth of a file in three folders = %v, want ErrLimit", err)
	}
	var names Names
	var err error
	for n := 0; err == nil && n <= maxLong; n += longName + 1 {
		err = names.Keep(strings.Repeat("a", longName+1))
	}
	if !errors.Is(err, ErrLimit) {
		t.Errorf("Keep of more than %d bytes in long names = %v, want ErrLimit", maxLong, err)
	}
}

// read counts n bytes that came out of nothing.
func read(b *Budget, n int64) error {
	_, err := io.Copy(io.Discard, b.Out(io.LimitReader(zeros{}, n)))
	return err
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func enter(b *Budget, sizes ...int64) error {
	for _, size := range sizes {
		if err := b.Entry(&tar.Header{Size: size}); err != nil {
			return err
		}
	}
	return nil
}
