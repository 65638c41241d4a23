//go:build linux

package cli_test

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/testenv"
	"gocker/step06-cgroups/cgrouptest"
)

// rootScripts are those that an ordinary user cannot type, and why.
var rootScripts = map[string]string{
	"boot":           "its host is a mount namespace that the machine's root makes",
	"cp":             "it gives files of the host to other users",
	"devices":        "a user makes no devices",
	"system":         "gocker info says of a user's gocker that it is one",
	"users":          "a user's containers have no users of their own yet",
	"doctor":         "it plants faults as root, and asks for root's answers",
	"full":           "it mounts a small disk",
	"limits":         "it names a cgroup from the root of all",
	"networks":       "a user's containers have gocker's resolver on the default network, too",
	"isolation":      "it joins the host's network namespace by a file, which only root may",
	"lasting":        "it mounts a small disk",
	"mounts":         "it mounts on the host",
	"restrict":       "with --privileged root may write the machine's parameters, and a user may not",
	"shared-root":    "its host is a mount namespace that the machine's root makes",
	"system-check":   "it gives files of layers to other users",
	"unread":         "it allows 20 open files, and a user's gocker takes the number 50",
	"volume-options": "it looks from outside at what is mounted",
}

// asUser is set for a process of the tests that an ordinary user started: it is the address of the registry.
const asUser = "GOCKER_TEST_AS_USER"

// TestScriptsOfAUser has an ordinary user type what root types in TestScripts.
func TestScriptsOfAUser(t *testing.T) {
	if os.Getenv(asUser) != "" {
		typeScripts(t)
		return
	}
	testenv.Needs(t, "newuidmap", "newgidmap", "setpriv", "pasta")
	u := testenv.OrdinaryUser(t, testenv.Subids())
	program := filepath.Join(u.Home, "cli.test")
	raw, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(program, raw, 0o755)
	}
	if err == nil {
		err = os.CopyFS(filepath.Join(u.Home, "script"), os.DirFS("testdata/script"))
	}
	if err != nil {
		t.Fatal(err)
	}
	pattern := "^" + t.Name() + "$"
	if _, script, ok := strings.Cut(flag.Lookup("test.run").Value.String(), "/"); ok {
		pattern += "/" + script
	}
	cmd := u.Command([]string{asUser + "=" + serveImages(t)}, program, "-test.run="+pattern, "-test.v")
	cmd.Dir = u.Home
	out, err := cgrouptest.In(cgrouptest.Delegated(t), cmd).CombinedOutput()
	for part := range strings.SplitSeq(string(out), "=== RUN ") {
		if strings.Contains(part, "--- SKIP") {
			t.Log(part)
		}
	}
	if err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

// typeScripts is the user's part of it.
func typeScripts(t *testing.T) {
	home := os.Getenv("HOME")
	d := dirs.Dirs{Root: filepath.Join(home, "root"), Run: filepath.Join(home, "run")}
	pull := exec.Command("gocker", "pull", "-q", "sample")
	pull.Env = append(os.Environ(), "GOCKER_ROOT="+d.Root, "GOCKER_RUN="+d.Run)
	if out, err := pull.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(home, "script", "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	params := scripts(d, os.Getenv(asUser))
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		if why := rootScripts[name]; why != "" {
			fmt.Printf("not typed by a user: %s: %s\n", name, why)
			continue
		}
		params.Files = append(params.Files, file)
	}
	testscript.Run(t, params)
}
