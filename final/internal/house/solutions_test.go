//go:build linux

package house

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// What "gocker learn solution" shows are functions of the steps: a line "=== step01-pull/pull.Image", and below it the code.
func TestSolutionsShowTheCodeAsItIs(t *testing.T) {
	mark := regexp.MustCompile(`(?m)^=== (.*)\n`)
	for _, name := range files(t, "step?.txt") {
		if filepath.Base(filepath.Dir(name)) != "solutions" {
			continue
		}
		file := filepath.Join(root, name)
		old, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var now []byte
		for _, m := range mark.FindAllSubmatch(old, -1) {
			code, err := source(string(m[1]))
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			now = append(now, string(m[0])+code+"\n\n"...)
		}
		if len(now) == 0 {
			t.Errorf("%s has no code", name)
		}
		if string(now) == string(old) {
			continue
		}
		if !*update {
			t.Errorf("%s is not the code any more; take it over: go test ./final/internal/house -run Solutions -update", name)
		} else if err := os.WriteFile(file, now, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
