//go:build linux

package tail

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/testenv"
)

func open(t testing.TB, name string) *os.File {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestAFullDiskKeepsWholeLines(t *testing.T) {
	d := testenv.SmallDisk(t, 64<<10)
	f := open(t, filepath.Join(d.Root, "log"))
	line := strings.Repeat("x", 999) + "\n"
	size, err := Append(f, []byte(strings.Repeat(line, 100)))
	if !errors.Is(err, unix.ENOSPC) || size == 0 || size%1000 != 0 {
		t.Errorf("Append of 100 kB to 64 = %d, %v, want some lines and ENOSPC", size, err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != size {
		t.Errorf("the file has %d, %v, want %d", info.Size(), err, size)
	}
	if now, err := Append(f, []byte(strings.Repeat(line, 5))); !errors.Is(err, unix.ENOSPC) || now%1000 != 0 {
		t.Errorf("Append to a full disk = %d, %v", now, err)
	}
}

func TestWhatAKillLeftOfALineIsCutOff(t *testing.T) {
	for name, tt := range map[string]struct{ before, want string }{
		"half a line":                {"one\ntw", "one\nnew\n"},
		"only half a line":           {"on", "new\n"},
		"half of a long line":        {"one\n" + strings.Repeat("x", 10000), "one\nnew\n"},
		"nothing but half of a long": {strings.Repeat("x", 10000), "new\n"},
		"whole lines":                {"one\ntwo\n", "one\ntwo\nnew\n"},
		"nothing":                    {"", "new\n"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "log")
			if err := os.WriteFile(file, []byte(tt.before), 0o600); err != nil {
				t.Fatal(err)
			}
			size, err := Append(open(t, file), []byte("new\n"))
			got, _ := os.ReadFile(file)
			if err != nil || string(got) != tt.want || size != int64(len(got)) {
				t.Errorf("Append = %d, %v, and the file has %q, want %q", size, err, got, tt.want)
			}
		})
	}
}

func TestAReaderOfALineThatIsCutOffGetsTheNextOneWhole(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	f := open(t, file)
	var lines Lines
	defer lines.Close()
	fmt.Fprint(f, "one\nhal")
	if err := lines.Open(file); err != nil {
		t.Fatal(err)
	}
	next := func(want string, wantErr error) {
		t.Helper()
		if line, err := lines.Next(); string(line) != want || err != wantErr {
			t.Errorf("Next = %q, %v, want %q, %v", line, err, want, wantErr)
		}
	}
	next("one\n", nil)
	next("", io.EOF)
	next("", io.EOF)
	if _, err := Append(f, []byte("another\n")); err != nil {
		t.Fatal(err)
	}
	next("another\n", nil)
	fmt.Fprint(f, "in two ")
	next("", io.EOF)
	fmt.Fprint(f, "pieces\n")
	next("in two pieces\n", nil)
}
