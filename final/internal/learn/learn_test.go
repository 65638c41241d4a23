//go:build linux

package learn

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"gocker/step01-pull/shared/lesson"
	"gocker/step01-pull/shared/testenv"
	"gocker/step03-layers/usernamespace"
	"gocker/step06-cgroups/cgrouptest"
)

// asUser is set for a process of the tests that an ordinary user started: it is the folder of the answers.
const asUser = "GOCKER_TEST_AS_USER"

func TestMain(m *testing.M) {
	if os.Getenv(asUser) != "" {
		lesson.Main("tests", usernamespace.Enter(func(context.Context, io.Reader, io.Writer, []string) error {
			if status := m.Run(); status != 0 {
				return lesson.Exit(status)
			}
			return nil
		}))
		return
	}
	testenv.Alone()
	os.Setenv("LC_ALL", "C.UTF-8") // what a learner is told depends on it
	os.Exit(m.Run())
}

// A wrong answer is the right one with one mistake: old is replaced by new.
type wrong struct {
	mistake  string
	text     string // the name of the sentence that tells it
	old, new string
}

var wrongAnswers = map[int][]wrong{1: wrongPulls, 2: wrongUntars, 3: wrongLayers, 4: wrongMounts, 5: wrongRuns, 6: wrongLimits}

// answered is a learner's program that has the right answer to a step, and to step 5 if it is step 6; the others are missing.
func answered(t *testing.T, steps ...int) map[string]string {
	t.Helper()
	files := map[string]string{}
	read := func(file string) {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(file)] = string(source)
	}
	read("skeleton/main.go")
	read("testdata/answers/must.go")
	for i := range Pages {
		name := fmt.Sprintf("step%d.go", i+1)
		if !slices.Contains(steps, i+1) && !(i+1 == 5 && slices.Contains(steps, 6)) {
			read("skeleton/" + name)
			continue
		}
		read("testdata/answers/" + name)
		if lines := strings.Count(files[name], "\n"); lines >= 150 {
			t.Errorf("the answer to step %d has %d lines; want fewer than 150", i+1, lines)
		}
	}
	return files
}

// build makes one program of all wrong answers to a step: one link takes longer than to compile them all.
// Its first argument says which it is; if it starts itself again, the variable MISTAKE does.
func build(t *testing.T, step int) string {
	t.Helper()
	// The go command takes the files for some in this module, where others do not see them.
	const folder = "testdata/built"
	temp, overlay := t.TempDir(), map[string]string{}
	write := func(name string, content []byte) {
		virtual, err := filepath.Abs(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		overlay[virtual] = filepath.Join(temp, strings.ReplaceAll(name, "/", "-"))
		if err := os.WriteFile(overlay[virtual], content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var imports, calls strings.Builder
	for i, w := range wrongAnswers[step] {
		found := 0
		for name, source := range answered(t, step) {
			found += strings.Count(source, w.old)
			changed := strings.Replace(source, w.old, w.new, 1)
			for _, pkg := range []string{"fmt", "net/http", "time"} { // what mistakes need and answers do not
				uses := regexp.MustCompile(`\b` + path.Base(pkg) + `\.`)
				if quoted := strconv.Quote(pkg); changed != source && uses.MatchString(w.new) && !strings.Contains(source, quoted) {
					changed = strings.Replace(changed, "import (", "import (\n\t"+quoted, 1)
				}
			}
			changed = strings.Replace(changed, "package main", fmt.Sprint("package a", i), 1)
			changed = strings.Replace(changed, "func main()", "func Main()", 1)
			write(fmt.Sprintf("a%d/%s", i, name), []byte(changed))
		}
		if found != 1 {
			t.Errorf("%s: %q is %d times in the answer, want once", w.mistake, w.old, found)
		}
		fmt.Fprintf(&imports, "\t\"gocker/final/internal/learn/%s/a%d\"\n", folder, i)
		fmt.Fprintf(&calls, "\tcase %q:\n\t\ta%d.Main()\n", w.mistake, i)
	}
	main := fmt.Sprintf("package main\n\nimport (\n\t\"os\"\n%s)\n\nfunc main() {\n\tmistake, again := os.LookupEnv(\"MISTAKE\")\n\tif !again {\n\t\tmistake = os.Args[1]\n\t\tos.Args = os.Args[1:]\n\t\tos.Setenv(\"MISTAKE\", mistake)\n\t}\n\tswitch mistake {\n%s\t}\n}\n", imports.String(), calls.String())
	write("main.go", []byte(main))
	list, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		t.Fatal(err)
	}
	replace, file := filepath.Join(temp, "overlay.json"), filepath.Join(temp, "answers")
	if err := os.WriteFile(replace, list, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-overlay", replace, "-o", file, "./"+folder).CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return file
}

// That the right answers pass, TestALearnerBuildsStepAfterStep says.
func TestAWrongAnswerIsToldWhy(t *testing.T) {
	testenv.NeedRoot(t)
	for step, wrongs := range wrongAnswers {
		t.Run(fmt.Sprintf("step%d", step), func(t *testing.T) {
			answers := filepath.Join(os.Getenv(asUser), fmt.Sprint("wrong", step))
			if os.Getenv(asUser) == "" {
				answers = build(t, step)
			}
			if n := len(wrongs); n < 10 {
				t.Errorf("there are %d wrong answers, want at least 10", n)
			}
			told := map[string]string{}
			for i, w := range wrongs {
				if os.Getenv(asUser) != "" && i%4 != 0 {
					continue // the cases are the same, so some tell that a user's cage shows the mistakes, too
				}
				t.Run(w.mistake, func(t *testing.T) {
					if step < 5 { // a program that is still open for writing cannot be executed, and a child of another cage may have it open
						t.Parallel()
					}
					checkStep(t, step, w.text, answers, w.mistake)
				})
				if other := told[w.text]; other != "" {
					t.Errorf("%q and %q are told by one sentence, %s", w.mistake, other, w.text)
				}
				told[w.text] = w.mistake
			}
		})
	}
}

// A user is told the same as root.
func TestAUsersAnswers(t *testing.T) {
	if folder := os.Getenv(asUser); folder != "" {
		for i := range Pages {
			checkStep(t, i+1, "", filepath.Join(folder, "P"))
		}
		return
	}
	testenv.Needs(t, "newuidmap", "newgidmap")
	u := testenv.OrdinaryUser(t, testenv.Subids())
	dir := newModule(t)
	for name, source := range answered(t, 1, 2, 3, 4, 5, 6) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(source), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	built := map[string]string{"learn.test": "/proc/self/exe", "P": buildModule(t, dir)}
	for step := range wrongAnswers {
		built[fmt.Sprint("wrong", step)] = build(t, step)
	}
	for name, from := range built {
		program, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(u.Home, name), program, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := u.Command([]string{asUser + "=" + u.Home, "LC_ALL=C.UTF-8"}, filepath.Join(u.Home, "learn.test"), "-test.run=^(TestAUsersAnswers|TestAWrongAnswerIsToldWhy)$", "-test.v")
	cmd.Dir = u.Home
	if out, err := cgrouptest.In(cgrouptest.Delegated(t), cmd).CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

// checkStep checks an answer, which is to be told by this text; "" is a right one.
func checkStep(t *testing.T, step int, name string, program ...string) {
	t.Helper()
	list, err := steps()[step]()
	if err != nil {
		t.Fatal(err)
	}
	// All cases before would take long: of those that tell one mistake, only the last three are tried.
	if i := slices.IndexFunc(list, func(c kase) bool { return c.name == name }); i > 3 {
		list = list[i-3:]
	}
	report := Report{Step: step, Program: program}
	if err := report.try(t.Context(), list, false); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	report.Print(&out, "again")
	if name == "" {
		if report.Passed != report.Cases || report.Cases < 12 {
			t.Errorf("%d of %d cases pass, want all, and at least 12\n%s", report.Passed, report.Cases, out.String())
		}
		return
	}
	texts, err := readTexts("en", step)
	if err != nil {
		t.Fatal(err)
	}
	why := texts[name].why
	if last := report.Results[len(report.Results)-1]; why == "" || last.Why != why || !strings.Contains(out.String(), why) {
		t.Errorf("it was told: %s\nwant the text %s: %s\n%s", last.Why, name, why, out.String())
	}
}

func TestEachCaseHasItsTexts(t *testing.T) {
	for step, cases := range steps() {
		list, err := cases()
		if err != nil {
			t.Fatal(err)
		}
		texts, err := readTexts("en", step)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, c := range list {
			if slices.Contains(names, c.name) {
				t.Errorf("step %d has two cases %s", step, c.name)
			}
			names = append(names, c.name)
			if texts[c.name].asks == "" {
				t.Errorf("step %d: the case %s does not say what it asks", step, c.name)
			}
		}
		for name, text := range texts {
			if text.asks != "" && !slices.Contains(names, name) {
				t.Errorf("step %d: no case has the text %s", step, name)
			}
			page, heading, _ := strings.Cut(text.page, "#")
			raw, err := os.ReadFile("../../../docs/" + page)
			if err != nil || text.why == "" || !slices.Contains(headings(string(raw)), heading) {
				t.Errorf("step %d: %s says why %q, and where: %s, %v; the page has %q", step, name, text.why, text.page, err, headings(string(raw)))
			}
		}
	}
}

// headings are those of a page, as links name them.
func headings(page string) (anchors []string) {
	for line := range strings.Lines(page) {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			anchor := strings.Map(func(r rune) rune {
				switch {
				case r == ' ':
					return '-'
				case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
					return r
				}
				return -1
			}, strings.ToLower(strings.TrimSpace(title)))
			anchors = append(anchors, anchor)
		}
	}
	return anchors
}

func TestAnAnswerMayBeInAnotherLanguage(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Needs(t, "python3")
	checkStep(t, 4, "", "python3", "testdata/answers/step4.py")
}
