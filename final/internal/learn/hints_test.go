//go:build linux

package learn

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestEachStepHasHintsAndASolution(t *testing.T) {
	quoted := regexp.MustCompile(`"([^"]+)"`)
	for step := range steps() {
		page, err := os.ReadFile(pageOf(t, step))
		if err != nil {
			t.Fatal(err)
		}
		titles := headings(string(page))
		for depth := 1; depth <= Depths; depth++ {
			hint, err := Hint(step, depth)
			if err != nil || hint == "" {
				t.Errorf("Hint(%d, %d) = %q, %v", step, depth, hint, err)
			}
			if depth > 1 {
				continue
			}
			if !strings.HasPrefix(hint, strings.TrimPrefix(pageOf(t, step), "../../../")+": ") {
				t.Errorf("the first hint for step %d does not begin with the page: %s", step, hint)
			}
			for _, m := range quoted.FindAllStringSubmatch(hint, -1) {
				anchors := headings("## " + m[1])
				if !slices.ContainsFunc(titles, func(title string) bool { return strings.HasPrefix(title, anchors[0]) }) {
					t.Errorf("the first hint for step %d names %q; the page has %q", step, m[1], titles)
				}
			}
		}
		if code, err := Solution(step); err != nil || !strings.HasPrefix(code, "=== step0") {
			t.Errorf("Solution(%d) = %.40q, %v", step, code, err)
		}
	}
}

// pageOf is the page of a step.
func pageOf(t *testing.T, step int) string {
	t.Helper()
	return "../../../docs/step0" + string(rune('0'+step)) + "-" + Pages[step-1] + ".md"
}
