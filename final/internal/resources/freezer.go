//go:build linux

package resources

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"gocker/step06-cgroups/cgroups"
)

// Freeze stops all processes of a cgroup, and those born until Thaw, without their notice: when it returns, none runs.
// v1 has a controller for it, whose folder is made only here. So the processes have to be moved, and one that comes into a
// frozen cgroup is frozen: none can flee by forking.
func Freeze(cg cgroups.Cgroup) error {
	if cg == cgroups.Nowhere {
		return cg.Enable("freezer")
	}
	freezer := cg.Word("", "freezer")
	if freezer != "" {
		if err := notRemoved(cg, freezer, cg.Enable(freezer)); err != nil {
			return fmt.Errorf("freeze: %w", err)
		}
	}
	err := freeze(cg)
	if err == nil && freezer != "" {
		err = move(cg, freezer)
	}
	if err == nil {
		// Again and again: with v1 one that was forked just now may have missed it.
		err = await("freeze", func() bool { return freeze(cg) == nil && Frozen(cg) })
	}
	if err != nil {
		return errors.Join(err, Thaw(cg))
	}
	return nil
}

func freeze(cg cgroups.Cgroup) error {
	return cgroups.Write(cg, cg.Word("cgroup.freeze", "freezer.state"), cg.Word("1", "FROZEN"))
}

// Thaw lets them go on.
func Thaw(cg cgroups.Cgroup) error {
	if err := cgroups.Write(cg, cg.Word("cgroup.freeze", "freezer.state"), cg.Word("0", "THAWED")); err != nil {
		return err
	}
	return await("thaw", func() bool { return !Frozen(cg) }) // with v2, when the first of them has noticed
}

// Frozen tells whether all processes of a cgroup stand still.
func Frozen(cg cgroups.Cgroup) bool {
	state, err := os.ReadFile(cg.Path(cg.Word("cgroup.events", "freezer.state")))
	return err == nil && strings.Contains(string(state), cg.Word("frozen 1", "FROZEN"))
}

// notRemoved is the error of a controller that was enabled for processes that run: their gocker may be removing
// their folders at this moment. It removes that of pids before all that are made later.
func notRemoved(cg cgroups.Cgroup, controller string, err error) error {
	if err != nil {
		return err
	}
	if _, err = os.Stat(folder(cg, "pids")); err != nil {
		os.Remove(folder(cg, controller))
	}
	return err
}

// Pids are the processes of a cgroup, and those of cgroups inside.
func Pids(cg cgroups.Cgroup) ([]int, error) { return cgroups.Pids(folder(cg, "pids")) }

// folder is the one that has the files of a controller.
func folder(cg cgroups.Cgroup, controller string) string {
	return filepath.Dir(cg.Path(controller + ".any"))
}

// move moves the processes of a cgroup into the folder of one more controller. Those that are inside have their children
// there. Others may have some while we look.
func move(cg cgroups.Cgroup, controller string) error {
	to := folder(cg, controller)
	return await("move the processes to "+to, func() bool {
		all, err1 := Pids(cg)
		there, err2 := cgroups.Pids(to)
		moved := err1 == nil && err2 == nil
		for _, pid := range all {
			if !slices.Contains(there, pid) {
				moved = false
				os.WriteFile(filepath.Join(to, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0) // it may have ended
			}
		}
		return moved
	})
}

// patience is how long processes may take to stop: one that waits for a disk stops when it has its answer.
const patience = 10 * time.Second

// await waits until the kernel has done something.
func await(what string, done func() bool) error {
	for deadline := time.Now().Add(patience); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not done after %s", what, patience)
		}
	}
	return nil
}
