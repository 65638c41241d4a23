//go:build linux

package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"gocker/step06-cgroups/trees"
)

// v1 is a folder in the tree of each controller that is mounted.
type v1 map[string]string // controller -> folder

// v1Controllers are what limits and counters need. Here another controller counts processor time than limits it. The
// others' folders are made where somebody enables them: each costs the start of a container a tenth of a millisecond.
var v1Controllers = []string{"memory", "cpu", "cpuacct", "pids"}

func newV1(mounted map[string]trees.Tree, name string) Cgroup {
	cg := v1{}
	for controller, tree := range mounted {
		cg[controller] = filepath.Join(tree.At(name), name)
	}
	return cg
}

func (cg v1) Make() error {
	var made []string
	for _, controller := range v1Controllers {
		folder, mounted := cg[controller]
		if !mounted || slices.Contains(made, folder) { // trees may be mounted together, as cpu and cpuacct often are
			continue
		}
		if err := mkdir(folder); err != nil {
			return errors.Join(err, remove(made...))
		}
		made = append(made, folder)
	}
	return nil
}

func (cg v1) Enable(controllers ...string) error {
	for _, controller := range controllers {
		folder, mounted := cg[controller]
		if !mounted {
			return fmt.Errorf("controller %s: %w", controller, ErrUnsupported)
		}
		if err := mkdir(folder); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// Folders begins with the freezer's: a frozen process does not die. Then comes the one of pids: a command that makes another
// later looks whether it is still there. The freezer's may be made before that look, so it is the last, too.
func (cg v1) Folders() (folders []string) {
	order := slices.Concat([]string{"freezer", "pids"}, slices.Sorted(maps.Keys(cg)))
	for _, controller := range order {
		if folder, mounted := cg[controller]; mounted && !slices.Contains(folders, folder) {
			folders = append(folders, folder)
		}
	}
	if freezer, mounted := cg["freezer"]; mounted {
		folders = append(folders, freezer)
	}
	return folders
}

func (cg v1) Path(file string) string {
	controller, _, _ := strings.Cut(file, ".")
	folder, mounted := cg[controller]
	if !mounted {
		folder = filepath.Join("/sys/fs/cgroup", controller) // it is not there: the error says so
	}
	return filepath.Join(folder, file)
}

func (cg v1) Word(v2, v1 string) string { return v1 }

func (cg v1) String() string {
	var lines strings.Builder
	for _, controller := range slices.Sorted(maps.Keys(cg)) {
		fmt.Fprintf(&lines, "%s:%s\n", controller, cg[controller])
	}
	return lines.String()
}
