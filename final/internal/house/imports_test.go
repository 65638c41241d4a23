//go:build linux

// Package house holds the rules of this repository, as tests: who may import whom, and that pages tell the truth.
package house

import (
	"go/ast"
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
		for _, pkg := range imports(t, file) {
			mayUse(t, file, pkg)
		}
	}
}

// rooms are those of the runtime, from the ground up: each imports only rooms that stand before it.
var rooms = []string{"tail", "names", "disk", "filter", "events", "images", "volumes", "networks", "describe", "logs", "containers", "life", "look", "engine", "cli"}

// Where an arrow runs back up, the function belongs where its data is. Packages that are no rooms are below all of them.
func TestRoomsImportOnlyRoomsBelow(t *testing.T) {
	const internal = "final/internal/"
	for _, file := range files(t, "*.go") {
		room, inside := strings.CutPrefix(filepath.Dir(file), internal)
		if !inside || room == "house" || room == "manual" || strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, pkg := range imports(t, file) {
			other, ours := strings.CutPrefix(pkg, "gocker/"+internal)
			if ours && slices.Contains(rooms, other) && slices.Index(rooms, other) >= slices.Index(rooms, room) {
				t.Errorf("%s imports %s; the order of rooms is %v, and all other packages are below them", file, other, rooms)
			}
		}
	}
}

func TestFunctionsFitOnAScreen(t *testing.T) {
	const most = 60 // lines
	for _, source := range files(t, "*.go") {
		if strings.HasSuffix(source, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, filepath.Join(root, source), nil, 0)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, decl := range f.Decls {
			begin, end := set.Position(decl.Pos()), set.Position(decl.End())
			if function, ok := decl.(*ast.FuncDecl); ok && end.Line-begin.Line >= most {
				t.Errorf("%s: %s has %d lines; a function has at most %d", begin, function.Name, end.Line-begin.Line+1, most)
			}
		}
	}
}

func TestAPackageOfAStepIsReadInOneSitting(t *testing.T) {
	const most = 700 // lines
	programs, err := filepath.Glob(filepath.Join(root, "step*"))
	if err != nil || len(programs) == 0 {
		t.Fatalf("the steps = %v, %v", programs, err)
	}
	var packages []string // that the steps' programs are made of
	for _, program := range programs {
		packages = append(packages, filepath.Base(program))
	}
	for i := 0; i < len(packages); i++ {
		sources, err := filepath.Glob(filepath.Join(root, packages[i], "*.go"))
		if err != nil || len(sources) == 0 {
			t.Fatalf("the files of %s = %v, %v", packages[i], sources, err)
		}
		lines := 0
		for _, source := range sources {
			if strings.HasSuffix(source, "_test.go") {
				continue
			}
			text, err := os.ReadFile(source)
			if err != nil {
				t.Fatal(err)
			}
			lines += strings.Count(string(text), "\n")
			for _, pkg := range imports(t, filepath.Join(packages[i], filepath.Base(source))) {
				if path, ours := strings.CutPrefix(pkg, "gocker/"); ours && !slices.Contains(packages, path) {
					packages = append(packages, path)
				}
			}
		}
		if lines > most {
			t.Errorf("%s has %d lines; a package of a step has at most %d: what needs more is two ideas, and so two packages", packages[i], lines, most)
		}
	}
}

// imports lists what a file imports.
func imports(t *testing.T, file string) (packages []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, parser.ImportsOnly)
	if err != nil {
		t.Error(err)
		return nil
	}
	for _, spec := range f.Imports {
		packages = append(packages, strings.Trim(spec.Path.Value, `"`))
	}
	return packages
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
	allowed := strings.Fields(`.ci .git .github .gitignore CONTRIBUTING.md LICENSE Makefile README.md build dist docs final go.work go.work.sum gocker
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
