//go:build linux

package house

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/testenv"
)

var update = flag.Bool("update", false, "write the real output and the current code into the pages")

// pages are all of the repository's texts.
func pages(t *testing.T) []string { return files(t, "*.md") }

// A block is what stands between two ``` on a page.
type block struct {
	marks string // the HTML comments right above it
	lang  string
	text  []string
}

// split cuts a page into blocks and what is between them. Both are in order; a part with no lang is text.
func split(page string) (parts []block) {
	parts = []block{{}}
	var marks string
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		last := &parts[len(parts)-1]
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && last.lang == "":
			parts = append(parts, block{marks: marks, lang: fence + " "}) // never empty: it is a block
			marks = ""
			continue
		case isFence:
			parts = append(parts, block{})
			continue
		case last.lang == "" && strings.HasPrefix(line, "<!-- "):
			marks += line + "\n"
		case last.lang == "" && line != "":
			marks = ""
		}
		last.text = append(last.text, line)
	}
	return parts
}

func join(parts []block) string {
	var lines []string
	for _, p := range parts {
		if p.lang != "" {
			lines = append(append(append(lines, "```"+strings.TrimSpace(p.lang)), p.text...), "```")
		} else {
			lines = append(lines, p.text...)
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

// mark returns what a comment <!-- name: … --> says.
func mark(comments, name string) (values []string) {
	for _, m := range regexp.MustCompile(`(?m)^<!-- `+name+`: (.*) -->$`).FindAllStringSubmatch(comments, -1) {
		values = append(values, m[1])
	}
	return values
}

func TestPagesSayWhatCommandsPrint(t *testing.T) {
	testenv.NeedRoot(t)
	// One at a time on a machine: removing a mount point takes away what others have mounted there.
	lock, err := dirs.Lock("/var/lib")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Close() })
	if _, err := os.Stat(filepath.Join(root, "gocker")); err != nil { // the pages build it there
		t.Cleanup(func() { os.Remove(filepath.Join(root, "gocker")) })
	}
	// What a command takes is then its own time, not the compiler's.
	if out, err := exec.Command("go", "build", "-o", os.DevNull, "gocker/final", "gocker/step06-cgroups").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for _, page := range pages(t) {
		if isChinese(page) {
			continue
		}
		t.Run(page, func(t *testing.T) { checkConsole(t, filepath.Join(root, page)) })
	}
}

func checkConsole(t *testing.T, file string) {
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, programs := range mark(string(raw), "needs") {
		testenv.Needs(t, strings.Fields(programs)...)
	}
	parts := split(string(raw))
	c := comparer{constants: constants(parts), want: map[string]string{}, got: map[string]string{}}
	var sh *shell
	failed := false
	for i, p := range parts {
		for _, re := range mark(strings.Join(p.text, "\n"), "volatile") {
			c.volatile = append(c.volatile, regexp.MustCompile(re))
		}
		for _, re := range mark(strings.Join(p.text, "\n"), "any order") {
			c.anyOrder = append(c.anyOrder, regexp.MustCompile(re))
		}
		for _, re := range mark(strings.Join(p.text, "\n"), "maybe") {
			c.maybe = append(c.maybe, regexp.MustCompile(re))
		}
		if p.lang != "console " {
			continue
		}
		if only := mark(p.marks, "only"); only != nil && only[0] != "cgroup "+cgroupVersion() {
			t.Logf("not run: a block for %s", only[0])
			continue
		}
		if sh == nil {
			sh = newShell(t)
			for _, user := range mark(string(raw), "user") {
				sh.become(t, user)
			}
		}
		parts[i].text = nil
		for _, cmd := range commands(t, p.text) {
			got := c.fold(cmd.output, sh.run(t, strings.Join(cmd.typed, "\n")))
			if !c.equal(cmd.output, got) {
				failed = true
				if !*update {
					t.Errorf("$ %s\n--- printed:\n%s\n--- the page says:\n%s", strings.Join(cmd.typed, "\n> "),
						strings.Join(got, "\n"), strings.Join(cmd.output, "\n"))
				}
			}
			parts[i].text = append(parts[i].text, "$ "+strings.Join(cmd.typed, "\n> "))
			parts[i].text = append(parts[i].text, got...)
		}
	}
	if sh != nil {
		if left := sh.run(t, "ls -A /var/run/gocker/containers 2>/dev/null; grep /var/run/gocker/ /proc/self/mountinfo"); len(left) > 0 {
			t.Errorf("the page's commands leave containers behind: %q", left)
		}
	}
	// Only then, and all of it: a new run has new hashes everywhere.
	if failed && *update {
		if err := os.WriteFile(file, []byte(join(parts)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// constants are the hashes that the text itself or a command names.
func constants(parts []block) map[string]bool {
	named := map[string]bool{}
	for _, p := range parts {
		for _, line := range p.text {
			if p.lang == "" || strings.HasPrefix(line, "$ ") || strings.HasPrefix(line, "> ") {
				for _, h := range hash.FindAllString(line, -1) {
					named[h[:12]] = true
				}
			}
		}
	}
	return named
}

type command struct{ typed, output []string }

// commands reads a console block: "$ " begins a command, "> " goes on with it, the rest is output.
func commands(t *testing.T, text []string) (all []command) {
	for _, line := range text {
		typed, begins := strings.CutPrefix(line, "$ ")
		more, continues := strings.CutPrefix(line, "> ")
		switch {
		case begins:
			all = append(all, command{typed: []string{typed}})
		case len(all) == 0:
			t.Fatalf("a console block begins with %q, want a command: $ …", line)
		case continues && len(all[len(all)-1].output) == 0:
			all[len(all)-1].typed = append(all[len(all)-1].typed, more)
		default:
			all[len(all)-1].output = append(all[len(all)-1].output, line)
		}
	}
	return all
}

// mostCode is how many lines of code the pages of steps 5 and 6 show at once.
const mostCode = 25

func TestPagesShowTheCodeAsItIs(t *testing.T) {
	for _, page := range pages(t) {
		file := filepath.Join(root, page)
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		parts := split(string(raw))
		for i, p := range parts {
			if p.lang != "go " {
				continue
			}
			symbol := mark(p.marks, "code")
			if symbol == nil {
				t.Errorf("%s: a go block has no <!-- code: folder/package.Name --> above it", page)
				continue
			}
			code, err := source(symbol[0])
			if err != nil {
				t.Errorf("%s: %v", page, err)
				continue
			}
			if strings.Join(p.text, "\n") != code && !*update {
				t.Errorf("%s: %s is now:\n%s", page, symbol[0], code)
			}
			parts[i].text = strings.Split(code, "\n")
			if lines := len(parts[i].text); lines > mostCode && (strings.HasPrefix(page, "docs/step05") || strings.HasPrefix(page, "docs/step06")) {
				t.Errorf("%s: %s has %d lines; show at most %d, and link to the rest", page, symbol[0], lines, mostCode)
			}
		}
		if *update && join(parts) != string(raw) {
			if err := os.WriteFile(file, []byte(join(parts)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// What a block may be: commands that are run, code that is included, shapes of files, and commands that this test
// cannot run: because they run this test, because it has no network, or because they change the machine. .ci/installed runs
// the last in a root of its own.
var langs = []string{"console ", "go ", "json ", "text ", "sh "}

var notRun = []string{"$ go test work -timeout 20m", "$ .ci/run", "$ go test ./final/internal/house", "$ go test ./final/internal/house -update",
	"$ go test ./final/internal/house -run Chinese -update", "$ go mod download", "$ make", "$ sudo make install"}

func TestPagesHaveNoDeadLinksAndNoBlockThatNobodyChecks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]*)(#[^)]*)?\)`)
	for _, page := range pages(t) {
		raw, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range split(string(raw)) {
			for _, line := range p.text {
				if p.lang == "sh " && !slices.Contains(notRun, line) || p.lang != "" && p.lang != "console " && p.lang != "sh " && strings.HasPrefix(line, "$ ") {
					t.Errorf("%s: nobody runs this; put it into a console block: %s", page, line)
				}
			}
			if p.lang != "" && !slices.Contains(langs, p.lang) {
				t.Errorf("%s: a block of %q; there are %q", page, p.lang, langs)
			}
			if p.lang != "" {
				continue
			}
			for _, m := range link.FindAllStringSubmatch(strings.Join(p.text, "\n"), -1) {
				to, anchor := m[1], m[2]
				if to == "" || strings.Contains(to, "://") {
					continue
				}
				if _, err := os.Stat(filepath.Join(root, filepath.Dir(page), to)); err != nil {
					t.Errorf("%s: dead link: %v", page, err)
				}
				if strings.HasPrefix(anchor, "#L") {
					t.Errorf("%s: %s%s: lines move; name the function", page, to, anchor)
				}
			}
		}
	}
}
