//go:build linux

package cgroups

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step06-cgroups/trees"
)

// v2 is one folder for all controllers.
type v2 struct{ path string }

// Controllers are what limits need. One that only counts costs next to nothing, so all are always wanted: what they
// count is told of containers without limits too.
var Controllers = []string{"cpu", "memory", "pids"}

// newV2 finds a place below our own cgroup, or below the nearest of its ancestors that can have a cgroup below it.
//
// A cgroup has the controllers that its parent switched on in cgroup.subtree_control, and a parent may do so only
// while no process is in it, the root excepted ("no internal processes"). We are in our own cgroup ourselves, so
// unless that is the root, the container's becomes our sibling or is further up.
func newV2(tree trees.Tree, name string) (Cgroup, error) {
	var firstErr error
	for at := tree.At(name); ; at = filepath.Dir(at) {
		err := switchOn(at, Controllers...)
		if err == nil {
			return v2{filepath.Join(at, name)}, nil
		}
		if firstErr == nil || !errors.Is(err, unix.EBUSY) {
			firstErr = err
		}
		if at == tree.Root {
			return nil, advice.Add(fmt.Errorf("no cgroup at or above %q can have the controllers %s: %w", tree.At(name), strings.Join(Controllers, ", "), firstErr),
				"ask systemd for one of your own: systemd-run --scope -p Delegate=yes gocker …")
		}
	}
}

// switchOn gives the cgroups inside of a folder controllers: those that they do not have, and all of them or none.
func switchOn(folder string, controllers ...string) error {
	file := filepath.Join(folder, "cgroup.subtree_control")
	on, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var off []string
	for _, c := range controllers {
		if !slices.Contains(strings.Fields(string(on)), c) {
			off = append(off, "+"+c)
		}
	}
	if len(off) == 0 {
		return nil
	}
	return write(file, strings.Join(off, " "))
}

func (cg v2) Make() error {
	if err := mkdir(cg.path); err != nil {
		return err
	}
	if err := cg.Enable(Controllers...); err != nil {
		return errors.Join(fmt.Errorf("switch on the controllers of cgroup %q: %w", cg.path, err), remove(cg.path))
	}
	return nil
}

// Enable switches controllers on in all cgroups above that do not have them on: none has what the one above does not hand
// down, and systemd gives its slices only what its units ask for.
func (cg v2) Enable(controllers ...string) error {
	return handDown(filepath.Dir(cg.path), controllers...)
}

func handDown(folder string, controllers ...string) error {
	err := switchOn(folder, controllers...)
	if err == nil {
		return nil
	}
	above := filepath.Dir(folder)
	if _, statErr := os.Stat(filepath.Join(above, "cgroup.controllers")); statErr != nil { // folder is the root
		return err
	}
	if err := handDown(above, controllers...); err != nil {
		return err
	}
	return switchOn(folder, controllers...)
}

func (cg v2) Folders() []string         { return []string{cg.path} }
func (cg v2) Path(file string) string   { return filepath.Join(cg.path, file) }
func (cg v2) Word(v2, v1 string) string { return v2 }
func (cg v2) String() string            { return ":" + cg.path + "\n" }
