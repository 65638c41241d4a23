//go:build linux

package cgroups_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gocker/step01-pull/shared/testenv"
	"gocker/step06-cgroups/cgroups"
)

// A process in a cgroup forbids controllers for the cgroups below it. New has to find an ancestor that has none, and
// leave the others as they are.
func TestV2FindsTheNearestCgroupThatMayHaveChildren(t *testing.T) {
	testenv.NeedRoot(t)
	mode, have, err := cgroups.Mode()
	if err != nil {
		t.Fatal(err)
	}
	if mode != "v2" {
		t.Logf("nothing to see: this machine has cgroups %s", mode)
		return
	}
	// parent/middle/leaf, with a process in middle and one, which asks, in leaf. Beside ours: at the first place that
	// New itself finds.
	base := make(t, cgroups.Limits{})
	parent := filepath.Join(filepath.Dir(base.Paths()[0]), "cgroups-"+id(t))
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
	other, asks := start(t, "sleep"), start(t, "new", id(t))
	t.Cleanup(func() { // before the folders
		other.Process.Kill()
		other.Wait()
	})
	for path, p := range map[string]*probe{middle: other, leaf: asks} {
		if err := os.WriteFile(filepath.Join(path, "cgroup.procs"), []byte(strconv.Itoa(p.Process.Pid)), 0); err != nil {
			t.Fatal(err)
		}
	}
	asks.begin(t, nil)
	at, err := asks.stdout.ReadString('\n')
	if want := filepath.Join(parent, "gocker-"+id(t)); err != nil || strings.TrimSpace(at) != want {
		t.Errorf("New made %q, %v; want %q", at, err, want)
	}
	if state := asks.ended(t); !state.Success() {
		t.Errorf("%v", state)
	}
	handedOn := "cpu memory pids"
	if slices.Contains(have, "io") {
		handedOn = "cpu io memory pids"
	}
	for file, want := range map[string]string{
		filepath.Join(parent, "cgroup.subtree_control"): handedOn,
		filepath.Join(middle, "cgroup.subtree_control"): "",
		filepath.Join(middle, "cgroup.procs"):           strconv.Itoa(other.Process.Pid),
	} {
		if got, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%s: %q, %v; want %q", file, got, err, want)
		}
	}
	if left := find(t, id(t)); len(left) != 1 || left[0] != base.Paths()[0] {
		t.Errorf("there are %q, want %q", left, base.Paths())
	}
}
