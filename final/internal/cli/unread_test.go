//go:build linux

package cli_test

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
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

var reads = flag.Int("reads", 2, "how many calls of each kind TestAFailedReadIsNoProofOfAbsence lets fail in each command")

// A usedStore has a container that runs, with a volume, one without a name, and an image that shares a layer with another,
// which nobody uses. There are also a container and a volume that can go, and an image that can come.
type usedStore struct {
	dirs.Dirs
	comes, archive, unused string   // images: one that is not here, by its name and as a file, and one that has no container
	saved                  string   // a copy of the two folders
	stays                  []string // what somebody uses, below them
	trees                  []string // and how that looks
	lock                   *os.File // that the container runs
}

func newUsedStore(t *testing.T) *usedStore {
	s := &usedStore{Dirs: emptyDirs(t), saved: t.TempDir()}
	address := testenv.Registry(t, nil)
	shared := testenv.Tar(t, testenv.Dir("d"), testenv.File("d/shared", "shared"))
	push := func(name string) string {
		testenv.Push(t, testenv.Image(t, shared, testenv.Tar(t, testenv.File(name, name))), address+"/"+name)
		return address + "/" + name
	}
	used := push("used")
	s.comes, s.unused, s.archive = push("comes"), push("unused"), filepath.Join(t.TempDir(), "comes.tar")
	mustGocker(t, s.Dirs, "pull", "-q", used)
	container := dirs.Short(mustGocker(t, s.Dirs, "create", "--name", "used", "-v", "used:/v", "-v", "/anonymous", used, "true"))
	for _, folder := range []string{s.Images(), s.Layers(), s.Volumes(), s.AllLasting()} {
		for _, name := range testenv.Ls(t, folder) {
			if name != "images.json" {
				s.stays = append(s.stays, filepath.Join(folder, name))
			}
		}
	}
	mustGocker(t, s.Dirs, "create", "--name", "free", "-v", "free:/v", "-v", "/anonymous", used, "true")
	mustGocker(t, s.Dirs, "volume", "create", "nobodys")
	mustGocker(t, s.Dirs, "pull", "-q", s.comes)
	mustGocker(t, s.Dirs, "save", "-o", s.archive, s.comes)
	mustGocker(t, s.Dirs, "rmi", s.comes)
	mustGocker(t, s.Dirs, "pull", "-q", s.unused)

	state := filepath.Join(s.Container(container), "state.json")
	raw, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(state, bytes.Replace(raw, []byte(`"created"`), []byte(`"running"`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	s.copy(t, s.saved, s.Root, s.Run)
	for _, path := range s.stays {
		s.trees = append(s.trees, testenv.Tree(t, path))
	}
	s.lock, err = dirs.TryLock(s.Container(container))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.lock.Close()
		for _, dir := range []string{s.Root, s.Run} {
			if err := os.RemoveAll(dir); err != nil {
				t.Error(err)
			}
		}
	})
	return s
}

func (s *usedStore) copy(t *testing.T, to string, from ...string) {
	t.Helper()
	if output, err := exec.Command("cp", append([]string{"-a", "-t", to}, from...)...).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, output)
	}
}

// restore makes all as it was.
func (s *usedStore) restore(t *testing.T) {
	t.Helper()
	s.lock.Close()
	for _, dir := range []string{s.Root, s.Run} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	s.copy(t, filepath.Dir(s.Root), filepath.Join(s.saved, "root"), filepath.Join(s.saved, "run"))
	lock, err := dirs.TryLock(s.stays[len(s.stays)-1])
	if err != nil {
		t.Fatal(err)
	}
	s.lock = lock
}

// strace runs gocker under strace, and returns what it logged. --seccomp-bpf makes it faster, but then it sends no signals.
func strace(t *testing.T, d dirs.Dirs, call string, options, args []string) (log, output string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "strace")
	cmd := exec.Command("strace", append(append([]string{"-f", "-y", "-o", file, "-e", "trace=" + call}, options...), append([]string{"gocker"}, args...)...)...)
	// One thread at a time: the calls come in the same order each time, more or less.
	cmd.Env = append(os.Environ(), "GOCKER_ROOT="+d.Root, "GOCKER_RUN="+d.Run, "GOMAXPROCS=1", "GOGC=off")
	said, err := cmd.CombinedOutput()
	raw, readErr := os.ReadFile(file)
	if readErr != nil {
		t.Fatalf("strace: %v: %s", err, said)
	}
	return string(raw), string(said)
}

// calls counts a thread's calls of one kind, and returns which of them were about the store.
var callLine = regexp.MustCompile(`(?m)^(\d+) +(\w+)\((.*)$`)

func (s *usedStore) calls(log string) []int {
	numbers, of := map[int]bool{}, map[string]int{}
	for _, line := range callLine.FindAllStringSubmatch(log, -1) {
		of[line[1]]++
		if strings.Contains(line[3], filepath.Dir(s.Root)+"/") {
			numbers[of[line[1]]] = true
		}
	}
	return slices.Collect(maps.Keys(numbers))
}

// Each call of a kind fails once. Whatever the command makes of it: nothing that somebody uses is gone.
func TestAFailedReadIsNoProofOfAbsence(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Needs(t, "strace")
	s := newUsedStore(t)
	calls, least := []string{"openat", "getdents64", "readlinkat", "newfstatat", "read"}, 50
	if testing.Short() {
		calls, least = []string{"openat"}, 10
	}
	failed := 0
	for _, args := range [][]string{
		{"rmi", s.unused}, {"load", "-q", "-i", s.archive}, {"pull", "-q", s.comes}, {"image", "prune", "-af"},
		{"volume", "rm", "used"}, {"volume", "prune", "-af"}, {"container", "prune", "-f"}, {"rm", "-fv", "free"},
		{"ps", "-a"}, {"run", "--rm", "--name", "used", s.unused, "true"}, {"system", "prune", "-af", "--volumes"},
	} {
		for _, call := range calls {
			s.restore(t)
			log, _ := strace(t, s.Dirs, call, []string{"--seccomp-bpf"}, args)
			numbers := s.calls(log)
			rand.Shuffle(len(numbers), func(i, j int) { numbers[i], numbers[j] = numbers[j], numbers[i] })
			for _, n := range numbers[:min(*reads, len(numbers))] {
				s.restore(t)
				log, output := strace(t, s.Dirs, call, []string{"--seccomp-bpf", "-e", fmt.Sprintf("inject=%s:error=EIO:when=%d", call, n)}, args)
				if strings.Contains(log, "(INJECTED)") {
					failed++
				}
				for i, path := range s.stays {
					now := "gone"
					if _, err := os.Lstat(path); err == nil {
						now = testenv.Tree(t, path)
					}
					if now != s.trees[i] {
						t.Fatalf("gocker %s, where the %d. %s fails: %s is %s, and was\n%s\nIt said:\n%s\n%s", strings.Join(args, " "), n, call, path, now, s.trees[i], output, log)
					}
				}
			}
		}
	}
	if failed < least {
		t.Errorf("only %d calls failed", failed)
	}
}

// Whatever a kill leaves is buried by the next command, or the command can be repeated.
func TestKilledBetweenTwoStepsNamesAndCgroupsAreConsistent(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Needs(t, "strace")
	d := emptyDirs(t)
	mustGocker(t, d, "pull", "-q", "sample")
	names := filepath.Join(d.Run, "names")
	for _, tt := range []struct {
		args   []string
		call   string
		path   string // below the container's folder, if it is not that of the names
		again  int    // exit status of the same command
		exists string // which of the names there is then
	}{
		{[]string{"rm", "-f", "one"}, "unlinkat", "state.json", 0, ""},
		{[]string{"rm", "-f", "one"}, "unlinkat", "/one", 0, ""},
		{[]string{"rm", "-f", "one"}, "unlinkat", ".", 0, ""},
		{[]string{"rename", "one", "two"}, "symlinkat", "/two", 0, "two"},
		{[]string{"rename", "one", "two"}, "renameat", "state.json", 0, "two"},
		{[]string{"rename", "one", "two"}, "unlinkat", "/one", 1, "two"}, // it had been done
	} {
		t.Run(strings.Join(tt.args, " ")+" before "+tt.call+" "+tt.path, func(t *testing.T) {
			id := dirs.Short(mustGocker(t, d, "create", "--name", "one", "sample", "true")) // its folder's name
			path := filepath.Join(d.Container(id), tt.path)
			if strings.HasPrefix(tt.path, "/") {
				path = names + tt.path
			}
			log, _ := strace(t, d, tt.call, []string{"-P", path, "-e", "inject=" + tt.call + ":signal=KILL"}, tt.args)
			if !strings.Contains(log, "+++ killed by SIGKILL +++") {
				t.Errorf("it was not killed:\n%s", log)
			}
			mustBeNamed(t, d)
			status := 0
			if output, err := gocker(t, d, tt.args...); err != nil {
				if status = err.(*exec.ExitError).ExitCode(); status != tt.again {
					t.Error(output)
				}
			}
			if status != tt.again {
				t.Errorf("the same command again ends with %d, want %d", status, tt.again)
			}
			mustBeNamed(t, d)
			if now := strings.TrimSpace(mustGocker(t, d, "ps", "-a", "--format", "{{.Names}}")); now != tt.exists {
				t.Errorf("then there is %q, want %q", now, tt.exists)
			}
			if tt.exists != "" {
				mustGocker(t, d, "rm", tt.exists)
			}
			for _, name := range []string{"one", "two"} {
				mustGocker(t, d, "create", "--name", name, "sample", "true")
				mustGocker(t, d, "rm", name)
			}
		})
	}
}

// Between the end of a container in its state and that of its cgroup, its monitor is killed.
func TestACgroupThatAKillLeftIsRemovedByTheNextCommand(t *testing.T) {
	testenv.NeedRoot(t)
	testenv.Needs(t, "strace")
	d := emptyDirs(t)
	mustGocker(t, d, "pull", "-q", "sample")
	for _, next := range [][]string{{"ps", "-a"}, {"rm", "one"}, {"start", "-a", "one"}} {
		id := dirs.Short(mustGocker(t, d, "create", "--name", "one", "sample", "true")) // its folder's name
		start := []string{"start", "-a", "one"}
		log, _ := strace(t, d, "unlinkat", nil, start)
		path := regexp.MustCompile(`"(/sys/fs/cgroup/.*/gocker-` + id + `)", AT_REMOVEDIR`).FindStringSubmatch(log)
		if path == nil {
			t.Fatalf("no cgroup was removed:\n%s", log)
		}
		log, output := strace(t, d, "unlinkat", []string{"-P", path[1], "-e", "inject=unlinkat:signal=KILL"}, start)
		if !strings.Contains(log, "+++ killed by SIGKILL +++") || len(cgroupsOf(id)) == 0 {
			t.Errorf("it was not killed while there is a cgroup: %s\n%s", output, log)
		}
		mustGocker(t, d, next...)
		if left := cgroupsOf(id); len(left) > 0 {
			t.Errorf("after gocker %s: %q", strings.Join(next, " "), left)
		}
		gocker(t, d, "rm", "-f", "one")
	}
}

func cgroupsOf(id string) (found []string) {
	filepath.WalkDir("/sys/fs/cgroup", func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.Name() == "gocker-"+id {
			found = append(found, path)
		}
		return nil // cgroups come and go while we walk
	})
	return found
}

// mustBeNamed wants each container to be found by its name, and no name to be of another.
func mustBeNamed(t *testing.T, d dirs.Dirs) {
	t.Helper()
	for line := range strings.Lines(mustGocker(t, d, "ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.Names}}")) {
		id, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		if found := strings.TrimSpace(mustGocker(t, d, "inspect", "-f", "{{.ID}}", name)); found != id {
			t.Errorf("%s is called %s, and that finds %q", id, name, found)
		}
	}
}
