//go:build linux

package learn

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gocker/final/internal/learn/cage"
	"gocker/step01-pull/shared/tree"
)

// A trial is a program in a cage, and what is to be told of it.
type trial struct {
	*cage.Cage
	program []string
	ran     []string // the commands
	input   []string // what is in the files that it is given
	stderr  string   // of the last command
	limits  []string // flags of "P run"
	host    string   // what is before the name of the image in its reference: "127.0.0.1:5000/", or ""
}

// A failure is what is wrong with a program. It is an error that the checker can tell from its own.
type failure struct {
	text               string // the name of the text that says why; "" is the case's
	expected, happened string
}

func (f *failure) Error() string {
	return fmt.Sprintf("%s: expected %s, happened %s", f.text, f.expected, f.happened)
}

func failed(text, expected, happened string) error { return &failure{text, expected, happened} }

// skipped says why a case cannot be tried here. It is no failure of the program.
type skipped struct{ why string }

func (s *skipped) Error() string { return s.why }

// at is where this process finds a file of Dir.
func (t *trial) at(parts ...string) string {
	return t.Path(append([]string{"learn"}, parts...)...)
}

// write writes a file for the program.
func (t *trial) write(name string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(t.at(name)), 0o755); err != nil {
		return err
	}
	return os.WriteFile(t.at(name), content, 0o644)
}

// run runs the program with more arguments.
func (t *trial) run(args ...string) (cage.Outcome, error) {
	t.ran = append(t.ran, "P "+strings.Join(args, " "))
	o, err := t.Run(append(slices.Clone(t.program), args...), most)
	if err != nil {
		return o, failed("start", "", err.Error())
	}
	t.stderr = o.Stderr
	if o.Late {
		return o, failed("late", say("it ends within %v", most), say("it was still there, and was killed"))
	}
	return o, nil
}

// succeed runs the program, which is to end with 0.
func (t *trial) succeed(args ...string) (cage.Outcome, error) {
	o, err := t.run(args...)
	if err == nil && o.Status != 0 {
		err = failed("", say("status %d", 0), say("status %d", o.Status))
	}
	return o, err
}

// nothingLeft looks for what the program left behind, beside its files.
func (t *trial) nothingLeft() error {
	left, err := t.Left()
	if err != nil {
		return err
	}
	t.KillRest()
	for _, found := range []struct {
		text string
		what []string
	}{{"unmounted", left.Unmounted}, {"mount-left", left.Mounts}, {"process-left", left.Processes}, {"cgroup-left", left.Cgroups}} {
		if len(found.what) > 0 {
			return failed(found.text, say("nothing"), strings.Join(found.what, "\n"))
		}
	}
	return nil
}

// differ compares two folders of the cage in some facts.
func differ(want, got string, facts ...string) error {
	expected, err := tree.ReadFacts(want)
	if err != nil {
		return err
	}
	happened, err := tree.ReadFacts(got)
	if err != nil {
		return err
	}
	return differFacts(expected, happened, facts...)
}

// differFacts compares some facts, and for all files the type.
func differFacts(expected, happened tree.Facts, facts ...string) error {
	var wanted, had []string
	for _, fact := range sorted(expected, happened) {
		if fact.What != tree.Type && !slices.Contains(facts, fact.What) {
			continue
		}
		w, isWanted := expected[fact]
		g, isThere := happened[fact]
		kind := tree.Fact{Name: fact.Name, What: tree.Type}
		if w == g && isWanted == isThere || fact != kind && expected[kind] != happened[kind] {
			continue
		}
		wanted, had = append(wanted, line(fact, w, isWanted)), append(had, line(fact, g, isThere))
	}
	if len(wanted) == 0 {
		return nil
	}
	return failed("", strings.Join(wanted, "\n"), strings.Join(had, "\n"))
}

func line(fact tree.Fact, value string, there bool) string {
	switch {
	case !there && fact.What == tree.Type:
		return say("%s: not there", fact.Name)
	case !there || value == "":
		return say("%s: no %s", fact.Name, say(fact.What))
	case fact.What == tree.Type:
		kinds := map[string]string{"-": say("a file"), "d": say("a folder"), "l": say("a symbolic link"), "c": say("a character device"), "b": say("a block device"), "p": say("a fifo")}
		return fmt.Sprintf("%s: %s", fact.Name, kinds[value])
	}
	return fmt.Sprintf("%s: %s %s", fact.Name, say(fact.What), value)
}

// sorted are the facts of two trees, each once.
func sorted(a, b tree.Facts) (all []tree.Fact) {
	for fact := range a {
		all = append(all, fact)
	}
	for fact := range b {
		if _, ok := a[fact]; !ok {
			all = append(all, fact)
		}
	}
	slices.SortFunc(all, func(a, b tree.Fact) int { return strings.Compare(a.Name+"\x00"+a.What, b.Name+"\x00"+b.What) })
	return all
}

// snapshot is what is in Dir, but for one folder, and for files that are the program's only for a while.
func (t *trial) snapshot(except string) (tree.Facts, error) {
	facts, err := tree.ReadFacts(t.at())
	for fact := range facts {
		inside := func(folder string) bool {
			return fact.Name == folder || strings.HasPrefix(fact.Name, folder+"/")
		}
		if fact.What != tree.Type && fact.What != tree.Content || inside("tmp") || except != "" && inside(except) {
			delete(facts, fact)
		}
	}
	return facts, err
}

// changes tells what is different between two snapshots, "" if nothing is.
func changes(before, after tree.Facts) string {
	var lines []string
	for _, fact := range sorted(before, after) {
		b, was := before[fact]
		a, is := after[fact]
		kind := tree.Fact{Name: fact.Name, What: tree.Type}
		if (a != b || was != is) && (fact == kind || before[kind] == after[kind]) {
			lines = append(lines, cage.Dir+"/"+line(fact, a, is))
		}
	}
	return strings.Join(lines, "\n")
}

// elsewhere lists what the program changed outside of Dir.
func (t *trial) elsewhere() (string, error) {
	changed, err := t.Changed()
	return strings.Join(changed, "\n"), err
}
