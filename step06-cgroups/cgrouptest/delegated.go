//go:build linux

package cgrouptest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gocker/step01-pull/shared/testenv"
	"gocker/step06-cgroups/trees"
)

// Delegated are cgroups that testenv's ordinary user may have others in, as docs/user-namespaces.md makes them by hand. The user's processes begin
// in these, which are one further down with v2.
func Delegated(t testing.TB) (begin []string) {
	t.Helper()
	all, err := trees.Find()
	if err != nil {
		t.Fatal(err)
	}
	name := "user-" + filepath.Base(os.Getenv("TMPDIR")) // by which it is removed if the tests are killed
	write := func(file, value string) {
		if err := os.WriteFile(file, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
	}
	var made []string
	give := func(folder string, files ...string) {
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		made = append(made, folder)
		for _, file := range append(files, "") {
			if err := os.Chown(filepath.Join(folder, file), testenv.UserID, testenv.UserID); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Cleanup(func() {
		for _, folder := range slices.Backward(made) {
			for deadline := time.Now().Add(10 * time.Second); os.Remove(folder) != nil && time.Now().Before(deadline); {
				time.Sleep(10 * time.Millisecond) // a holder may be in there
			}
		}
	})
	if mode, _ := all.Mode(); mode == "v2" {
		write(all.V2.Own+"/cgroup.subtree_control", "+cpu +memory +pids")
		folder := filepath.Join(all.V2.Own, name)
		give(folder, "cgroup.procs", "cgroup.subtree_control")
		give(folder+"/session", "cgroup.procs")
		return []string{folder + "/session"}
	}
	for _, tree := range all.V1 {
		folder := filepath.Join(tree.Own, name)
		if slices.Contains(made, folder) { // cpu and cpuacct may be one
			continue
		}
		give(folder, "cgroup.procs", "tasks")
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} { // which begin empty, and then no process may be there
			if above, err := os.ReadFile(filepath.Join(tree.Own, file)); err == nil {
				write(filepath.Join(folder, file), string(above))
			}
		}
	}
	return made
}

// In has a command of testenv's ordinary user begin in cgroups. It needs setpriv.
func In(cgroups []string, cmd *exec.Cmd) *exec.Cmd {
	enter := `for c in $CGROUPS; do echo $$ >$c/cgroup.procs || exit; done; exec setpriv --reuid $ID --regid $ID --clear-groups "$@"`
	as := exec.Command("sh", append([]string{"-c", enter, "sh", cmd.Path}, cmd.Args[1:]...)...)
	as.Dir, as.Env = cmd.Dir, append(cmd.Env, "CGROUPS="+strings.Join(cgroups, " "), fmt.Sprint("ID=", testenv.UserID))
	return as
}
