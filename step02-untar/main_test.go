//go:build linux

package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"gocker/step01-pull/shared/testenv"
)

func TestRunUnpacksAndPullsFirstWhereNeeded(t *testing.T) {
	d := testenv.Dirs(t)
	args := []string{"--root", d.Root, "--run", d.Run, "sample"}
	for _, again := range []bool{false, true} {
		var out bytes.Buffer
		if err := run(t.Context(), nil, &out, args); err != nil {
			t.Fatal(err)
		}
		if pulled := strings.HasPrefix(out.String(), "There is no package.tar of sample:latest yet: pulling it, as step01-pull does\n"); pulled == again {
			t.Errorf("run says\n%swant that it pulls: %v", out.String(), !again)
		}
		testenv.InOrder(t, out.String(), "1. Unpacking "+d.AllTmp(), "package.tar, entry by entry",
			"2. Beside it", ".tar.gz\n", "manifest.json\n", "package.tar\n", "sha256:",
			"3. manifest.json says", `"Config": "sha256:`, "\nnext: go run ./step03-layers sample\n")
		if files, err := filepath.Glob(filepath.Join(d.AllTmp(), "*", "*")); err != nil || len(files) != 8 {
			t.Errorf("tmp has %q, %v; want package.tar, reference, manifest.json, the config and 4 layers", files, err)
		}
	}
}
