//go:build linux

package house

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var hash = regexp.MustCompile(`\b[0-9a-f]{12,64}\b`)

// A comparer tells whether a page's output is what a command printed. It is used for all blocks of one page in turn,
// because a hash that stands in two of them must be one hash in both.
type comparer struct {
	volatile  []*regexp.Regexp // what may differ from run to run
	anyOrder  []*regexp.Regexp // lines that are a set: their order depends on hashes
	maybe     []*regexp.Regexp // lines that some machines have
	constants map[string]bool  // first 12 digits of hashes that the page's text names: compared as they are

	want, got map[string]string // hash -> the place where it came up first
}

// equal compares the lines of one command.
func (c *comparer) equal(want, got []string) bool {
	always := func(lines []string) []string {
		return slices.DeleteFunc(slices.Clone(lines), func(l string) bool { return matches(c.maybe, l) })
	}
	return slices.Equal(c.canonical(always(want), c.want), c.canonical(always(got), c.got))
}

// fold replaces the lines of got that a "…" in want stands for, so that they can be compared line by line.
func (c *comparer) fold(want, got []string) []string {
	var out []string
	rest := got
	for i, line := range want {
		switch {
		case line != "…" && len(rest) == 0:
			return got
		case line != "…":
			out, rest = append(out, rest[0]), rest[1:]
		case i == len(want)-1:
			out, rest = append(out, "…"), nil
		default:
			next := slices.IndexFunc(rest, func(l string) bool { return c.shape(l, nil) == c.shape(want[i+1], nil) })
			if next < 0 {
				return got
			}
			out, rest = append(out, "…"), rest[next:]
		}
	}
	return append(out, rest...)
}

// canonical names every hash by the order in which it came up, in this block or one before.
func (c *comparer) canonical(lines []string, seen map[string]string) []string {
	var out []string
	for len(lines) > 0 {
		n := slices.IndexFunc(lines, func(l string) bool { return !matches(c.anyOrder, l) })
		if n < 0 {
			n = len(lines)
		}
		run := slices.Clone(lines[:max(n, 1)])
		lines = lines[len(run):]
		slices.SortFunc(run, func(a, b string) int { return strings.Compare(c.shape(a, seen), c.shape(b, seen)) })
		var shapes []string // before these lines give names to hashes
		for _, line := range run {
			shapes = append(shapes, c.shape(line, seen))
		}
		for i, line := range run {
			// Of lines that look alike, only their order could tell which hash is which, and it depends on the hashes.
			// A later line that has its place names them.
			if i > 0 && shapes[i-1] == shapes[i] || i+1 < len(run) && shapes[i+1] == shapes[i] {
				out = append(out, shapes[i])
				continue
			}
			for _, h := range hash.FindAllString(line, -1) {
				if seen[h[:12]] == "" {
					seen[h[:12]] = fmt.Sprintf("hash %d", len(seen)+1)
				}
			}
			out = append(out, c.shape(line, seen))
		}
	}
	return out
}

// shape is a line without what may differ. A hash that seen does not name is just a hash. The first 12 digits of a
// hash are its name for people, so both are named alike.
func (c *comparer) shape(line string, seen map[string]string) string {
	for _, v := range c.volatile {
		line = v.ReplaceAllString(line, "~")
	}
	return hash.ReplaceAllStringFunc(strings.TrimRight(line, " "), func(h string) string {
		if c.constants[h[:12]] {
			return h
		}
		return fmt.Sprintf("<%d digits, %s>", len(h), seen[h[:12]])
	})
}

func matches(all []*regexp.Regexp, line string) bool {
	return slices.ContainsFunc(all, func(re *regexp.Regexp) bool { return re.MatchString(line) })
}

func TestCompareTakesOtherHashesButNotOtherWords(t *testing.T) {
	const a, b, fixed = "aaaaaaaaaaaa", "bbbbbbbbbbbb", "c059bfaa849c"
	for _, tt := range []struct {
		name, want, got string
		equal           bool
	}{
		{"other hashes", "x " + a + "\ny " + b, "x " + b + "\ny " + a, true},
		{"one hash in place of two", "x " + a + "\ny " + b, "x " + a + "\ny " + a, false},
		{"short and long name of one hash", a + " " + a + "00", b + " " + b + "11", true},
		{"a hash that the text names", fixed, a, false},
		{"a hash whose first digits the text names", fixed + "4d8e", a + "4d8e", false},
		{"a pid", "pid 7", "pid 8", true},
		{"another word", "one", "two", false},
		{"a line less", "one\ntwo", "one", false},
		{"lines left out", "one\n…\nfour", "one\ntwo\nthree\nfour", true},
		{"lines left out, but not the last", "one\n…\nfour", "one\ntwo\nthree", false},
		{"a set in another order", "1 " + a + "\n2 " + b + "\n- " + a + "\n- " + b, "1 " + b + "\n2 " + a + "\n- " + a + "\n- " + b, true},
		{"a set whose order depends on its hashes, before a list", "- " + a + "\n- " + b + "\n1 " + b + "\n2 " + a, "- " + a + "\n- " + b + "\n1 " + a + "\n2 " + b, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := comparer{volatile: []*regexp.Regexp{regexp.MustCompile(`pid \d+`)}, anyOrder: []*regexp.Regexp{regexp.MustCompile(`^- `)},
				constants: map[string]bool{fixed: true}, want: map[string]string{}, got: map[string]string{}}
			want, got := strings.Split(tt.want, "\n"), strings.Split(tt.got, "\n")
			if equal := c.equal(want, c.fold(want, got)); equal != tt.equal {
				t.Errorf("equal(%q, %q) = %v, want %v", want, got, equal, tt.equal)
			}
		})
	}
}
