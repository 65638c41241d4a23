//go:build linux

package learn

import (
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"gocker/final/internal/learn/cage"
	"gocker/step01-pull/sample"
	"gocker/step01-pull/shared/testenv"
)

var update = flag.Bool("update", false, "take over the versions of the project")

// newModule is what "learn new" makes.
func newModule(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "P")
	if err := New(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// buildModule builds it as a learner does who has no network.
func buildModule(t *testing.T, dir string) (program string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-o", "P", ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOPROXY=off", "GOFLAGS=-mod=readonly")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return filepath.Join(dir, "P")
}

func TestANewModuleIsBuiltWithoutANetworkAndSaysWhatIsMissing(t *testing.T) {
	dir := newModule(t)
	program := buildModule(t, dir)
	for _, tt := range []struct{ args, step string }{
		{"pull alpine file", "1"}, {"untar file dir", "2"}, {"layers dir root", "3"}, {"mount root app:v1 dir", "4"}, {"umount dir", "4"},
		{"run root true", "5"}, {"run -m 33554432 root true", "6"}, {"run --cpus 0.5 --pids-limit 16 root true", "6"},
	} {
		out, err := exec.Command(program, strings.Fields(tt.args)...).CombinedOutput()
		if want := "P: step " + tt.step + " is not built yet: see the TODOs in step" + tt.step + ".go\n"; err == nil || string(out) != want {
			t.Errorf("P %s prints %q, %v; want %q", tt.args, out, err, want)
		}
	}
}

// A learner fills in a step, and checks it, step after step.
func TestALearnerBuildsStepAfterStep(t *testing.T) {
	testenv.NeedRoot(t)
	dir := newModule(t)
	program := buildModule(t, dir)
	var done []int
	for i := range Pages {
		step := i + 1
		report, err := Check(t.Context(), step, []string{program}, false)
		if err != nil || report.Passed == report.Cases {
			t.Errorf("before step %d is built all %d cases pass, %v", step, report.Passed, err)
		}
		done = append(done, step)
		for name, source := range answered(t, done...) {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(source), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		program = buildModule(t, dir)
		checkStep(t, step, "", program)
	}
	runsAContainer(t, program)
}

// runsAContainer goes with a program from a name in a registry to a process.
func runsAContainer(t *testing.T, program string) {
	t.Helper()
	in, err := cage.New()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	p := &trial{Cage: in, program: []string{program}}
	img, _, err := sample.Image()
	if err != nil {
		t.Fatal(err)
	}
	stop, err := p.serve(served{"app:v1": img}, nil)
	if err := errors.Join(err, os.Mkdir(p.at("package"), 0o755), os.Mkdir(p.at("root"), 0o755)); err != nil {
		t.Fatal(err)
	}
	defer stop()
	for _, command := range []string{
		"pull 127.0.0.1:5000/app:v1 /learn/image.tar", "untar /learn/image.tar /learn/package", "layers /learn/package /learn/root",
		"mount /learn/root 127.0.0.1:5000/app:v1 /learn/c", "run -m 67108864 --pids-limit 16 /learn/c/mnt cat /etc/os-release", "umount /learn/c",
	} {
		o, err := p.succeed(strings.Fields(command)...)
		if err != nil {
			t.Fatalf("P %s: %v\n%s", command, err, o.Stderr)
		}
		if strings.HasPrefix(command, "run ") && !strings.HasPrefix(o.Stdout, "ID=sample\n") {
			t.Errorf("P %s: %q", command, o.Stdout)
		}
	}
	if err := p.nothingLeft(); err != nil {
		t.Error(err)
	}
}

func TestTheModuleHasTheVersionsOfTheProject(t *testing.T) {
	read := func(file string) string {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	project, sums := read("../../go.mod"), read("../../go.sum")
	requires := regexp.MustCompile(`(?m)^(\t\S+|go) (\S+)( // indirect)?$`)
	versions := map[string]string{}
	for _, m := range requires.FindAllStringSubmatch(project, -1) {
		versions[m[1]] = m[2]
	}
	var sum strings.Builder
	mod := requires.ReplaceAllStringFunc(read("skeleton/go.mod.txt"), func(line string) string {
		m := requires.FindStringSubmatch(line)
		name, version := strings.TrimSpace(m[1]), versions[m[1]]
		for line := range strings.Lines(sums) {
			if strings.HasPrefix(line, name+" "+version+" ") || strings.HasPrefix(line, name+" "+version+"/go.mod ") {
				sum.WriteString(line)
			}
		}
		return m[1] + " " + version + m[3]
	})
	for file, want := range map[string]string{"skeleton/go.mod.txt": mod, "skeleton/go.sum.txt": sum.String()} {
		if *update {
			if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := read(file); got != want {
			t.Errorf("%s is\n%s\nwant\n%s\n(go test ./final/internal/learn -run Versions -update takes it over)", file, got, want)
		}
	}
}

func TestANewModuleReplacesNothing(t *testing.T) {
	for _, tt := range []struct {
		what string
		make func(dir string) error
		want error
	}{
		{"a folder that is not there", func(string) error { return nil }, nil},
		{"an empty folder", func(dir string) error { return os.Mkdir(dir, 0o755) }, nil},
		{"a folder with a file", func(dir string) error { return errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(dir+"/x", nil, 0o644)) }, ErrNotEmpty},
		{"a file", func(dir string) error { return os.WriteFile(dir, []byte("mine"), 0o644) }, errors.ErrUnsupported},
		{"a folder in none", func(dir string) error { return os.Remove(filepath.Dir(dir)) }, os.ErrNotExist},
		{"a folder below a go.work", func(dir string) error { return os.WriteFile(filepath.Dir(dir)+"/go.work", nil, 0o644) }, errors.ErrUnsupported},
	} {
		t.Run(tt.what, func(t *testing.T) {
			top := filepath.Join(t.TempDir(), "top")
			dir := filepath.Join(top, "P")
			if err := errors.Join(os.Mkdir(top, 0o755), tt.make(dir)); err != nil {
				t.Fatal(err)
			}
			before := listed(top)
			err := New(dir)
			if tt.want == nil && err != nil || tt.want != nil && err == nil || tt.want != nil && tt.want != errors.ErrUnsupported && !errors.Is(err, tt.want) {
				t.Errorf("New = %v, want %v", err, tt.want)
			}
			if after := listed(top); err != nil && !slices.Equal(before, after) {
				t.Errorf("after an error there is %q, before %q", after, before)
			}
		})
	}
}

func TestOnAFullDiskThereIsNoHalfOfAModule(t *testing.T) {
	root := testenv.SmallDisk(t, 4*os.Getpagesize()).Root
	if err := New(filepath.Join(root, "P")); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("New = %v, want ENOSPC", err)
	}
	if names := listed(root); len(names) > 1 {
		t.Errorf("%q is there", names[1:])
	}
}

// listed are the files below a folder.
func listed(top string) (names []string) {
	filepath.WalkDir(top, func(name string, _ os.DirEntry, _ error) error { // one that is not there has none
		names = append(names, name)
		return nil
	})
	return names
}
