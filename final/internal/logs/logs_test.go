//go:build linux

package logs

import (
	"bytes"
	"os"
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
			l, err := Open(folder, tt.driver)
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
