//go:build linux

package cgroups_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"gocker/step01-pull/shared/testenv"
	"gocker/step06-cgroups/cgroups"
	"gocker/step06-cgroups/cgrouptest"
	"gocker/step06-cgroups/trees"
)

// A process in a cgroup forbids controllers for the cgroups below it. New has to find an ancestor that has none, and
// leave the others as they are.
func TestV2FindsTheNearestCgroupThatMayHaveChildren(t *testing.T) {
	testenv.NeedMachinesRoot(t, "no cgroup is delegated to the user")
	all, err := trees.Find()
	if err != nil {
		t.Fatal(err)
	}
	if mode, _ := all.Mode(); mode != "v2" {
		t.Logf("nothing to see: this machine has cgroups %s", mode)
		return
	}
	// parent/middle/leaf, with a process in middle and one, which asks, in leaf. Beside ours: at the first place that
	// New itself finds.
	base := cgrouptest.Cgroup(t)
	parent := filepath.Join(filepath.Dir(cgroups.Paths(base)[0]), "cgroups-"+cgrouptest.ID(t))
	middle := filepath.Join(parent, "middle")
	leaf := filepath.Join(middle, "leaf")
	if err := os.MkdirAll(leaf, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, path := range []string{leaf, middle, parent} {
			if err := os.Remove(path); err != nil {
				t.Error(err)
			}
		}
	})
	other, asks := cgrouptest.Start(t, "sleep"), cgrouptest.Start(t, "new", cgrouptest.ID(t))
	t.Cleanup(func() { // before the folders
		other.Process.Kill()
		other.Wait()
	})
	for path, p := range map[string]*cgrouptest.Probe{middle: other, leaf: asks} {
		p.Move(t, path)
	}
	asks.Begin(t)
	at, err := asks.Stdout.ReadString('\n')
	if want := filepath.Join(parent, "gocker-"+cgrouptest.ID(t)); err != nil || strings.TrimSpace(at) != want {
		t.Errorf("New made %q, %v; want %q", at, err, want)
	}
	if state := asks.Ended(t); !state.Success() {
		t.Errorf("%v", state)
	}
	for file, want := range map[string]string{
		filepath.Join(parent, "cgroup.subtree_control"): "cpu memory pids",
		filepath.Join(middle, "cgroup.subtree_control"): "",
		filepath.Join(middle, "cgroup.procs"):           strconv.Itoa(other.Process.Pid),
	} {
		if got, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%s: %q, %v; want %q", file, got, err, want)
		}
	}
	if left := cgrouptest.Find(t, cgrouptest.ID(t)); len(left) != 1 || left[0] != cgroups.Paths(base)[0] {
		t.Errorf("there are %q, want %q", left, cgroups.Paths(base))
	}
}
