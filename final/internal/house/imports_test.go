//go:build linux

// Package house holds the rules of this repository, as tests: who may import whom, and that pages tell the truth.
package house

import (
	"go/parser"
	"go/token"
	"go/version"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// root is the repository, as seen from this package's folder, where go test runs.
const root = "../../.."

// number orders the modules: a step's own number, and final after all of them.
func number(t *testing.T, module string) int {
	if module == "final" {
		return 1000
	}
	digits := regexp.MustCompile(`^step(\d\d)-`).FindStringSubmatch(module)
	if digits == nil {
		t.Fatalf("module %q is neither a step nor final", module)
	}
	n, err := strconv.Atoi(digits[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// files lists the files below the repository whose names match pattern, relative to it.
func files(t *testing.T, pattern string) (found []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && entry.Name() == ".git" {
			return filepath.SkipDir
		}
		if ok, err := filepath.Match(pattern, entry.Name()); ok || err != nil {
			rel, _ := filepath.Rel(root, path) // path begins with root
			found = append(found, rel)
			return err
		}
		return nil
	})
	if err != nil || len(found) == 0 {
		t.Fatalf("files(%q) = %v, %v", pattern, found, err)
	}
	return found
}

// mayUse fails the test if a file of one module names a package of a module that comes later.
func mayUse(t *testing.T, file, pkg string) {
	path, ours := strings.CutPrefix(pkg, "gocker/")
	if !ours {
		return
	}
	user, _, _ := strings.Cut(file, "/")
	used, _, _ := strings.Cut(path, "/")
	if number(t, used) > number(t, user) {
		t.Errorf("%s uses %s: a step may use only steps with a smaller number, and nothing may use final", file, pkg)
	}
}

func TestAStepImportsOnlySmallerSteps(t *testing.T) {
	for _, file := range files(t, "*.go") {
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, parser.ImportsOnly)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, spec := range f.Imports {
			mayUse(t, file, strings.Trim(spec.Path.Value, `"`))
		}
	}
}

func TestEveryModuleRequiresOnlySmallerStepsAndAGoWithoutKnownHoles(t *testing.T) {
	goLine := regexp.MustCompile(`(?m)^go (\S+)$`)
	ours := regexp.MustCompile(`(?m)^(?:require|replace)?\s*(gocker/\S+)`)
	for _, file := range append(files(t, "go.mod"), "go.work") {
		raw, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		// Before 1.26.5 os.Root could be led out of its folder: CVE-2026-39822, CVE-2026-32282.
		if line := goLine.FindSubmatch(raw); line == nil || version.Compare("go"+string(line[1]), "go1.26.5") < 0 {
			t.Errorf("%s: go line is %q, want 1.26.5 or later", file, line)
		}
		for _, use := range ours.FindAllSubmatch(raw, -1) {
			mayUse(t, file, string(use[1]))
		}
	}
}

func TestTheTopLevelHasOnlyWhatThePlanNames(t *testing.T) {
	allowed := strings.Fields(`.ci .git .gitignore CONTRIBUTING.md LICENSE README.md docs final go.work go.work.sum gocker
		step01-pull step02-untar step03-layers step04-overlay step05-namespaces step06-cgroups`)
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(allowed, e.Name()) {
			t.Errorf("%s is at the top level of the repository; allowed are %v", e.Name(), allowed)
		}
	}
}
