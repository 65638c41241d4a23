//go:build linux

package house

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A page docs/zh/NAME.md is the Chinese docs/NAME.md; docs/zh/README.md is the README. It has the same headings, the same
// commands, outputs and code, the same names of code, and the same links. Only sentences, and words in pictures, differ.
func TestChinesePagesSayTheSame(t *testing.T) {
	for _, page := range pages(t) {
		if !isChinese(page) {
			continue
		}
		original := filepath.Join("docs", filepath.Base(page))
		if filepath.Base(page) == "README.md" {
			original = "README.md"
		}
		t.Run(page, func(t *testing.T) {
			want, got := read(t, original), read(t, page)
			if w, g := levels(want), levels(got); !slices.Equal(w, g) {
				t.Errorf("the levels of headings are %v, and %v in %s", g, w, original)
			}
			sameBlocks(t, page, want, got)
			same(t, "name of code", codeNames(want), codeNames(got))
			same(t, "link", links(t, original, want), links(t, page, got))
		})
	}
}

// isChinese tells a page of docs/zh from the others. Its blocks are the original's, so nothing of it is run.
func isChinese(page string) bool { return filepath.Dir(page) == "docs/zh" }

func read(t *testing.T, page string) []block {
	raw, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	return split(string(raw))
}

// levels are the numbers of # of the headings, and the folded answers, in order.
func levels(parts []block) (all []string) {
	heading := regexp.MustCompile(`^(#+ |<details>)`)
	for _, p := range parts {
		for _, line := range p.text {
			if p.lang == "" && heading.MatchString(line) {
				all = append(all, heading.FindString(line))
			}
		}
	}
	return all
}

// sameBlocks compares the blocks of two pages. Blocks of text are pictures and may have words of the other language.
func sameBlocks(t *testing.T, page string, want, got []block) {
	if len(want) != len(got) {
		t.Fatalf("there are %d blocks and texts, want %d", len(got), len(want))
	}
	changed := false
	for i, w := range want {
		if w.lang != got[i].lang {
			t.Fatalf("block %d is of %q, want %q", i, got[i].lang, w.lang)
		}
		if w.lang == "" || w.lang == "text " || slices.Equal(w.text, got[i].text) {
			continue
		}
		changed = true
		got[i].text = w.text
		if !*update {
			t.Errorf("this block differs (go test ./final/internal/house -run Chinese -update takes it over):\n%s", strings.Join(w.text, "\n"))
		}
	}
	if changed && *update {
		if err := os.WriteFile(filepath.Join(root, page), []byte(join(got)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// text is what stands between the blocks.
func text(parts []block) string {
	var lines []string
	for _, p := range parts {
		if p.lang == "" {
			lines = append(lines, p.text...)
		}
	}
	return strings.Join(lines, "\n")
}

func codeNames(parts []block) map[string]bool {
	names := map[string]bool{}
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(text(parts), -1) {
		names[strings.Join(strings.Fields(m[1]), " ")] = true
	}
	return names
}

// links are what a page leads to, seen from the top. A Chinese page stands for the page that it translates.
func links(t *testing.T, page string, parts []block) map[string]bool {
	all := map[string]bool{}
	for _, m := range regexp.MustCompile(`\]\(([^)#\s]*)(#[^)]*)?\)`).FindAllStringSubmatch(text(parts), -1) {
		to := m[1]
		if to == "" { // a heading of the same page
			continue
		}
		if !strings.Contains(to, "://") {
			to = filepath.Join(filepath.Dir(page), to)
			if to == "docs/zh/README.md" {
				to = "README.md"
			}
			to = strings.Replace(to, "docs/zh/", "docs/", 1)
		}
		all[to] = true
	}
	return all
}

func same(t *testing.T, what string, want, got map[string]bool) {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if !got[name] {
			t.Errorf("the %s %q is missing", what, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if !want[name] {
			t.Errorf("the %s %q is not on the original page", what, name)
		}
	}
}
