//go:build linux

// Package hostile sends gocker what a registry should not: each attack is a case with a name, and docs/security.md
// tells its story.
package hostile

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"gocker/final/internal/cli"
	"gocker/final/internal/life"
	"gocker/final/internal/networks"
	"gocker/final/internal/rootless"
	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/testenv"
	"gocker/step03-layers/merged"
	"gocker/step03-layers/road"
)

// The bounds of every single command, of its memory in bytes and of its time. Both are far above what one needs: they
// tell bounded from unbounded.
const (
	mostMemory = 256 << 20
	mostTime   = 2 * time.Minute
)

// child is set for a process that is not the test, but a gocker which the test attacks. Its value is the road that an
// image takes: "final" is the command line; "steps" is road.Pull, the library of the first three steps.
const child = "GOCKER_TEST_CHILD"

func TestMain(m *testing.M) {
	life.Monitor()
	life.WaitForExec()
	life.KeepTerminal()
	road := os.Getenv(child)
	if road == "" {
		testenv.Alone()
		os.Exit(m.Run())
	}
	status := 0
	if err := rootless.Enter(os.Args[1:]); err != nil { // for root it does nothing
		fmt.Fprint(os.Stderr, advice.Print("gocker", err))
		os.Exit(125)
	}
	if road == "steps" {
		if err := stepsPull(os.Args[2]); err != nil {
			fmt.Fprint(os.Stderr, advice.Print("gocker", err))
			status = 1
		}
	} else {
		status = cli.Main(os.Args[1:])
	}
	// Not rusage's maxrss: that of a forked process begins with its parent's.
	if own, err := os.ReadFile("/proc/self/status"); err == nil {
		os.WriteFile(os.Getenv(child+"_STATUS"), own, 0o600)
	}
	os.Exit(status)
}

func stepsPull(name string) error {
	ref, err := pull.ParseReference(name)
	if err == nil {
		_, err = road.Pull(context.Background(), dirs.Default(), ref)
	}
	return err
}

// A house is the folder that one attack is tried in. Only what lies below store is gocker's.
type house struct {
	t       testing.TB
	user    *testenv.User // whose it is; nil: root's
	mapped  bool          // its containers have users of their own
	base    string
	store   dirs.Dirs
	left    func(testing.TB) // see testenv.Watch
	outside string           // what an archive has no business with
	before  string
}

func newHouse(t testing.TB, user *testenv.User) *house {
	base := t.TempDir()
	// Others must be able to come as far as the store: see outOfReach.
	if err := errors.Join(os.Chmod(filepath.Dir(base), 0o755), os.Chmod(base, 0o755)); err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, user: user, base: base, outside: filepath.Join(base, "outside"),
		store: dirs.Dirs{Root: filepath.Join(base, "store", "root"), Run: filepath.Join(base, "store", "run")}}
	for _, dir := range []string{h.outside, filepath.Join(base, "cwd"), filepath.Join(base, "store")} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{"secret": "keep out\n", "passwd": "guest:x:0:0::/outside:/bin/sh\n"} {
		if err := os.WriteFile(filepath.Join(h.outside, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { // a house has a network of its own, and there are not so many subnets
		if err := (networks.Store{Dirs: h.store}).Rest(); err != nil {
			t.Error(err)
		}
	})
	h.left = testenv.Watch(t, h.store)
	h.give(filepath.Dir(h.store.Root), h.store.Run, h.store.Containers())
	h.before = h.rest()
	return h
}

// give gives files to the user whose house it is.
func (h *house) give(files ...string) {
	for _, file := range files {
		if h.user == nil {
			return
		}
		if err := os.Lchown(file, testenv.UserID, testenv.UserID); err != nil {
			h.t.Fatal(err)
		}
	}
}

// rest is all of the house but the store.
func (h *house) rest() string {
	return strings.Join(testenv.Ls(h.t, h.base), " ") + "\n" + testenv.Tree(h.t, h.outside) + testenv.Tree(h.t, filepath.Join(h.base, "cwd"))
}

// gocker runs a command in the house, and sees that it stays within its bounds and that all it prints can be shown on
// a terminal.
func (h *house) gocker(road string, args ...string) (output string, status int) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), mostTime) // not the test's: what it started is to be removed after its end, too
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.SysProcAttr, cmd.Env = &syscall.SysProcAttr{}, os.Environ()
	if h.user != nil {
		as := h.user.Command(nil, filepath.Join(h.user.Home, "gocker"), args...)
		cmd.Path, cmd.Args, cmd.SysProcAttr, cmd.Env = as.Path, as.Args, as.SysProcAttr, as.Env
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.Dir = filepath.Join(h.base, "cwd")
	statusFile := filepath.Join(h.base, "store", "status")
	cmd.Env = append(cmd.Env, child+"="+road, child+"_STATUS="+statusFile, "GOCKER_ROOT="+h.store.Root, "GOCKER_RUN="+h.store.Run, "DOCKER_CONFIG="+filepath.Join(h.base, "store"))
	out, err := cmd.CombinedOutput()
	if err := context.Cause(ctx); err != nil {
		h.t.Fatalf("gocker %q was not done after %s: %v\n%s", args, mostTime, err, out)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Fatal(err)
	}
	if i := bytes.IndexFunc(out, func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) }); i >= 0 {
		h.t.Errorf("gocker %q printed what a terminal may obey: %q", args, out)
	}
	raw, err := os.ReadFile(statusFile)
	if err != nil {
		h.t.Fatalf("gocker %q ended by %v:\n%s", args, cmd.ProcessState, out)
	}
	peak := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(raw)
	if kib, _ := strconv.Atoi(string(peak[1])); kib<<10 > mostMemory {
		h.t.Errorf("gocker %q took %d MiB of memory, want at most %d", args, kib>>10, mostMemory>>20)
	}
	if err := os.Remove(statusFile); err != nil {
		h.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// knowPassword is what docker login leaves.
func (h *house) knowPassword(host, password string) {
	if password == "" {
		return
	}
	config := fmt.Sprintf(`{"auths": {"%s": {"auth": "%s"}}}`, host, base64.StdEncoding.EncodeToString([]byte("u:"+password)))
	if err := os.WriteFile(filepath.Join(h.base, "store", "config.json"), []byte(config), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// untouched fails the test if anything but the store is not as it was.
func (h *house) untouched() {
	h.t.Helper()
	if after := h.rest(); after != h.before {
		h.t.Errorf("outside of the store there is now\n%swant what was there before\n%s", after, h.before)
	}
	if h.user == nil {
		return
	}
	err := filepath.WalkDir(filepath.Dir(h.store.Root), func(path string, _ fs.DirEntry, err error) error {
		var stat unix.Stat_t
		if errors.Is(err, fs.ErrNotExist) || unix.Lstat(path, &stat) == unix.ENOENT {
			return nil // a container is there, and ends
		}
		for _, id := range []uint32{stat.Uid, stat.Gid} {
			if id != testenv.UserID && (id < testenv.FirstSubID || id >= testenv.FirstSubID+testenv.SubIDs) {
				h.t.Errorf("%q is a file of %d:%d, who is not the user", path, stat.Uid, stat.Gid)
			}
		}
		return err
	})
	if err != nil {
		h.t.Error(err)
	}
}

// empty fails the test if anything of an image is in the store.
func (h *house) empty() {
	h.t.Helper()
	d := h.store
	for _, dir := range []string{d.AllTmp(), d.Layers(), d.Images(), d.Containers()} {
		left := slices.DeleteFunc(testenv.Ls(h.t, dir), func(name string) bool { return name == "images.json" })
		if len(left) > 0 {
			h.t.Errorf("%s has %q, want nothing", dir, left)
		}
	}
	h.left(h.t)
}

// files spells what all layers of the store have: "d/" a folder, "a=1" a file, "a->b" a link, "a!" a whiteout.
func (h *house) files() string {
	h.t.Helper()
	var all []string
	stacks, err := dirs.Glob(h.store.Layers(), "*/fs")
	if err != nil {
		h.t.Fatal(err)
	}
	for _, layer := range stacks {
		err := filepath.WalkDir(layer, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || path == layer {
				return err
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			what := ""
			switch {
			case info.IsDir() && merged.IsOpaque(path):
				what = "/!"
			case info.IsDir():
				what = "/"
			case merged.IsWhiteout(info):
				what = "!"
			case info.Mode()&fs.ModeSymlink != 0:
				target, err := os.Readlink(path)
				if err != nil {
					return err
				}
				what = "->" + target
			case info.Size() >= 100:
				what = fmt.Sprintf(" of %d bytes", info.Size())
			case info.Mode().IsRegular():
				content, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				what = "=" + string(content)
			}
			all = append(all, strings.TrimPrefix(path, layer+"/")+what)
			return nil
		})
		if err != nil {
			h.t.Fatal(err)
		}
	}
	slices.Sort(all)
	return strings.ReplaceAll(strings.Join(all, " "), strings.TrimPrefix(h.outside, "/"), "OUTSIDE")
}

// An attack is one image, and what becomes of it.
type attack struct {
	name  string
	image func(h *house) *image // what a registry sends
	load  func(h *house) []byte // or what comes as a file
	flags []string              // of the pull

	refused string // what the error says; "": the image is pulled
	layers  string // what its layers then are, as files spells it; "": not looked at
	run     []string
	status  int
	prints  string   // what the run prints, a regular expression
	asUser  *outcome // if it is another one for a user who is not root: an image has no devices then
	then    func(h *house, name string)
}

// An outcome is how a run ends.
type outcome struct {
	status int
	prints string
}

func TestHostileImages(t *testing.T) {
	testenv.NeedRoot(t)
	for _, a := range slices.Concat(archives(), manifests(), loads(), runs(), lives()) {
		t.Run(a.name, func(t *testing.T) { newHouse(t, nil).try("final", a) })
	}
	// The lessons unpack archives with the same code, but by another road. What manifests say they leave to the library.
	for _, a := range archives() {
		if a.flags == nil {
			t.Run("steps/"+a.name, func(t *testing.T) { newHouse(t, nil).try("steps", a) })
		}
	}
}

// What attacks when it runs finds no more if the container has users of its own.
func TestHostileImagesWithUsersOfTheirOwn(t *testing.T) {
	testenv.NeedRoot(t)
	for _, a := range slices.Concat(runs(), lives()) {
		if strings.Contains(a.name, "escape sequences") { // it asks for a script, and there is none with user namespaces
			continue
		}
		t.Run(a.name, func(t *testing.T) {
			h := newHouse(t, nil)
			h.mapped = true
			h.try("final", a)
		})
	}
}

// What a user pulls makes nothing outside of the user's folders, and no file of another owner. Manifests, and what comes as a file,
// are not tried again: the same code reads them, and asks nothing of the kernel before it has refused them. Nor is what costs only
// time and memory.
func TestHostileImagesThatAUserPulls(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap")
	u := testenv.OrdinaryUser(t, testenv.Subids())
	program, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(filepath.Join(u.Home, "gocker"), program, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range slices.Concat(archives(), runs(), lives()) {
		if regexp.MustCompile(`million| [GT]B|5,000|200 |again`).MatchString(a.name) {
			continue
		}
		if a.asUser != nil {
			a.status, a.prints = a.asUser.status, a.asUser.prints
		}
		t.Run(a.name, func(t *testing.T) { newHouse(t, &u).try("final", a) })
	}
}

// try sends the image by one road, and sees that what happens is what the case says, and nothing else.
func (h *house) try(road string, a attack) {
	name, args := "image:latest", []string{"load", "-i", filepath.Join(h.base, "store", "archive")}
	if a.load != nil {
		if err := os.WriteFile(args[2], a.load(h), 0o600); err != nil {
			h.t.Fatal(err)
		}
	} else {
		img := a.image(h)
		server := httptest.NewServer(img)
		defer server.Close()
		host := strings.TrimPrefix(server.URL, "http://")
		h.knowPassword(host, img.password)
		name, args = host+"/image", []string{"pull", host + "/image"}
	}
	out, status := h.gocker(road, append(args, a.flags...)...)
	h.untouched()
	if a.refused != "" {
		if status != 1 || !strings.Contains(out, a.refused) {
			h.t.Errorf("%s ended with %d:\n%swant 1 and %q", args[0], status, out, a.refused)
		}
		h.empty()
		return
	}
	if status != 0 {
		h.t.Errorf("%s ended with %d:\n%s", args[0], status, out)
		return
	}
	if got := h.files(); a.layers != "" && got != a.layers {
		h.t.Errorf("the layers are %q, want %q", got, a.layers)
	}
	if a.run != nil {
		args := slices.Clone(a.run)
		args[slices.Index(args, "IMAGE")] = name
		out, status := h.gocker("final", h.run("--rm", args...)...)
		if status != a.status || !regexp.MustCompile(a.prints).MatchString(out) {
			h.t.Errorf("run %q ended with %d:\n%swant %d and %q", args, status, out, a.status, a.prints)
		}
		h.untouched()
	}
	if a.then != nil {
		a.then(h, name)
	}
	if out, status := h.gocker("final", "rmi", name); status != 0 {
		h.t.Errorf("rmi ended with %d:\n%s", status, out)
	}
	h.untouched()
	h.empty()
}

// run is the command that runs a container. Without its network, as a user may have none.
func (h *house) run(flag string, args ...string) []string {
	command := []string{"run", flag}
	if h.user != nil {
		command = append(command, "--network", "none")
	}
	if h.mapped {
		command = append(command, "--uidmap", "0:700000:65536")
	}
	return append(command, args...)
}
