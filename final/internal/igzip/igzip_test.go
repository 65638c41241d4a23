package igzip

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"gocker/step01-pull/shared/testenv"
	"gocker/step02-untar/decompress"
)

// program is a program: this one.
func program(t testing.TB) []byte {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func gz(t testing.TB, plain []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// eachGunzip runs a test with the library, and with the program that is faster.
func eachGunzip(t *testing.T, test func(t *testing.T)) {
	decompress.Gunzip = Gunzip
	t.Cleanup(func() { decompress.Gunzip = nil })
	t.Run("library", func(t *testing.T) {
		t.Setenv("PATH", "")
		test(t)
	})
	t.Run("igzip", func(t *testing.T) {
		path, err := exec.LookPath("igzip")
		if err != nil {
			testenv.Lacks(t, "igzip, of Debian's package isal")
		}
		t.Setenv("PATH", only(t, path))
		test(t)
	})
}

func TestGzipIsDecompressed(t *testing.T) {
	plain := program(t)
	once := gz(t, plain)
	broken := errors.New("broken")
	eachGunzip(t, func(t *testing.T) {
		for _, tt := range []struct {
			what string
			sent io.Reader
			want []byte
			err  error // nil: none; io.EOF: any
		}{
			{"in one piece", bytes.NewReader(once), plain, nil},
			{"a few bytes at a time", iotest.HalfReader(bytes.NewReader(once)), plain, nil},
			{"of two members", io.MultiReader(bytes.NewReader(once), bytes.NewReader(once)), bytes.Repeat(plain, 2), nil},
			{"with zeros behind it", io.MultiReader(bytes.NewReader(once), bytes.NewReader(make([]byte, 1000))), plain, nil},
			{"with megabytes of zeros behind it", io.MultiReader(bytes.NewReader(once), bytes.NewReader(make([]byte, 5<<20))), plain, nil},
			{"with text behind it", io.MultiReader(bytes.NewReader(once), strings.NewReader("end\n")), plain, nil},
			{"with zeros between two members", io.MultiReader(bytes.NewReader(once), bytes.NewReader(make([]byte, 10)), bytes.NewReader(once)), plain, nil},
			{"with the first byte of a member behind it", io.MultiReader(bytes.NewReader(once), strings.NewReader("\x1f")), nil, io.EOF},
			{"with half a member behind it", io.MultiReader(bytes.NewReader(once), bytes.NewReader(once[:len(once)/2])), nil, io.EOF},
			{"cut short", bytes.NewReader(once[:len(once)/2]), nil, io.EOF},
			{"with a wrong byte", io.MultiReader(bytes.NewReader(once[:len(once)/2]), bytes.NewReader([]byte{^once[len(once)/2]}), bytes.NewReader(once[len(once)/2+1:])), nil, io.EOF},
			{"that fails on the way", io.MultiReader(bytes.NewReader(once[:len(once)/2]), iotest.ErrReader(broken)), nil, broken},
		} {
			r := decompress.Reader(tt.sent)
			got, err := io.ReadAll(r)
			if again, _ := r.Read(make([]byte, 1)); again != 0 {
				t.Errorf("%s: a read after the end gives a byte", tt.what)
			}
			if err := r.Close(); err != nil {
				t.Errorf("%s: Close: %v", tt.what, err)
			}
			switch {
			case tt.err == nil && (err != nil || !bytes.Equal(got, tt.want)):
				t.Errorf("%s: %d bytes, %v; want %d and no error", tt.what, len(got), err, len(tt.want))
			case tt.err == io.EOF && err == nil:
				t.Errorf("%s: no error", tt.what)
			case tt.err == broken && !errors.Is(err, broken):
				t.Errorf("%s: %v, want %v", tt.what, err, broken)
			}
		}
	})
}

func TestClosedEarlyNobodyReadsAnyMore(t *testing.T) {
	sent := gz(t, program(t))
	eachGunzip(t, func(t *testing.T) {
		from := bytes.NewReader(sent)
		r := decompress.Reader(from)
		if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		r.Close()
		from.Reset(nil) // the race detector would see a reader
	})
}

func BenchmarkDecompress(b *testing.B) {
	decompress.Gunzip = Gunzip
	b.Cleanup(func() { decompress.Gunzip = nil })
	plain := program(b)
	sent := gz(b, plain)
	for _, name := range []string{"library", "igzip"} {
		b.Run(name, func(b *testing.B) {
			path, err := exec.LookPath(name)
			if err != nil && name != "library" {
				b.Skipf("this machine has no %s", name)
			}
			b.Setenv("PATH", "")
			if name != "library" {
				b.Setenv("PATH", only(b, path))
			}
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				r := decompress.Reader(bytes.NewReader(sent))
				if _, err := io.Copy(io.Discard, r); err != nil {
					b.Fatal(err)
				}
				r.Close()
			}
		})
	}
}

// only is a PATH that has one program.
func only(t testing.TB, path string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Symlink(path, filepath.Join(dir, filepath.Base(path))); err != nil {
		t.Fatal(err)
	}
	return dir
}
