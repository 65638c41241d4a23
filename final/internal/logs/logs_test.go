//go:build linux

package logs

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"gocker/final/internal/describe"
	"gocker/step01-pull/shared/testenv"
)

func TestALogHasALimit(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		name   string
		driver describe.LogDriver
		writes int // MiB
		files  []string
		most   int64 // MiB
	}{
		{"nobody has chosen", describe.LogDriver{}, 130, []string{"log.json", "log.json.1", "log.json.2", "log.json.3", "log.json.4"}, 101},
		{"fewer files", describe.LogDriver{MaxFile: 2}, 70, []string{"log.json", "log.json.1"}, 41},
		{"a size alone", describe.LogDriver{MaxSize: mib}, 5, []string{"log.json"}, 2},
		{"no limit", describe.LogDriver{MaxSize: -1}, 50, []string{"log.json"}, 60},
	} {
		t.Run(tt.name, func(t *testing.T) {
			folder := t.TempDir()
			l, err := Open(folder, tt.driver, nil)
			if err != nil {
				t.Fatal(err)
			}
			written := bytes.Repeat(append(bytes.Repeat([]byte("x"), 1023), '\n'), 1024)
			stdout := l.Stream("stdout")
			for range tt.writes {
				stdout.Write(written)
			}
			l.Flush()
			files := testenv.Ls(t, folder)
			var sum int64
			for _, name := range files {
				info, err := os.Stat(folder + "/" + name)
				if err != nil {
					t.Fatal(err)
				}
				sum += info.Size()
			}
			if len(files) != len(tt.files) || sum > tt.most*mib || tt.driver.MaxSize < 0 && sum < int64(tt.writes)*mib {
				t.Errorf("after %d MiB: %d bytes in %q, want %d MiB at most in %q", tt.writes, sum, files, tt.most, tt.files)
			}
		})
	}
}

// Long lines are kept in pieces, and shown as lines: with one time, counted once, and no character is torn.
func TestALongLineIsOneLine(t *testing.T) {
	folder := t.TempDir()
	l, err := Open(folder, describe.LogDriver{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	long := "x" + strings.Repeat("äöü", 20_000)
	stdout, stderr := l.Stream("stdout"), l.Stream("stderr")
	for i := range 3 {
		for _, piece := range []string{long[:50_000], long[50_000:] + "\n"} { // between them the other output writes
			fmt.Fprint(stdout, piece)
			fmt.Fprintf(stderr, "short %d\n", i)
		}
	}
	fmt.Fprint(stdout, "last")
	l.Flush()
	for _, tt := range []struct {
		tail           int
		stdout, stderr int // lines
	}{{-1, 4, 6}, {2, 1, 1}, {3, 1, 2}, {4, 2, 2}, {7, 3, 4}, {0, 0, 0}} {
		for _, stamped := range []bool{false, true} {
			var out, errs bytes.Buffer
			r := NewReader(folder, Options{Tail: tt.tail, Timestamps: stamped}, &out, &errs, func(int, error) { t.Error("damaged") })
			if _, err := r.Read(); err != nil {
				t.Fatal(err)
			}
			r.Close()
			want := strings.Repeat(long+"\n", max(0, tt.stdout-1)) + "last"
			if tt.stdout == 0 {
				want = ""
			}
			got := out.String()
			if stamped {
				got = regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z `).ReplaceAllString(got, "")
			}
			if got != want || strings.Count(errs.String(), "\n") != tt.stderr {
				t.Errorf("the last %d, timestamps %v: %d bytes in %d lines of stdout, want %d in %d; %d lines of stderr, want %d",
					tt.tail, stamped, len(got), strings.Count(got, "\n"), len(want), strings.Count(want, "\n"), strings.Count(errs.String(), "\n"), tt.stderr)
			}
		}
	}
}
