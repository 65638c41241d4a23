//go:build linux

package cgroups

import (
	"os"
	"path/filepath"
)

// A Limit is one that stands in some cgroup.
type Limit struct {
	Dir   string // the cgroup's folder
	Value uint64 // bytes or processes
	Left  uint64 // until it is reached
}

// What a cgroup may have of memory and of processes, and what it has: files of v2 and of v1.
var limitFiles = map[string][][2]string{
	"memory": {{"memory.max", "memory.current"}, {"memory.limit_in_bytes", "memory.usage_in_bytes"}},
	"pids":   {{"pids.max", "pids.current"}},
}

// noLimit is less than what v1 shows where there is no limit of memory: the largest number, rounded down to pages.
const noLimit = 1 << 62

// LimitsOf are the limits of "memory" or "pids" that hold for a cgroup: its own, if it has one, and those of the cgroups above. A
// process counts in all of them, and each may refuse it more.
func LimitsOf(cg Cgroup, controller string) (limits []Limit) {
	for dir := filepath.Dir(cg.Files(controller)[0]); ; dir = filepath.Dir(dir) {
		isRoot := true // the root has no limits
		for _, files := range limitFiles[controller] {
			if _, err := os.Stat(filepath.Join(dir, files[0])); err != nil {
				continue
			}
			isRoot = false
			if value := number(dir, files[0]); value > 0 && value < noLimit { // 0 is "max"
				limits = append(limits, Limit{dir, value, value - min(value, number(dir, files[1]))})
			}
		}
		if isRoot {
			return limits
		}
	}
}

// RefusedForks tells whether the limit has refused a process, in its cgroup or in one below it. known is false where the
// kernel counts that in the cgroup of who asked for the process, whoever's limit it was: with v1, and with v2 before Linux 6.11.
func (l Limit) RefusedForks() (refused, known bool) {
	_, err := os.Stat(filepath.Join(l.Dir, "pids.events.local"))
	return field(l.Dir, "pids.events.local", "max") > 0, err == nil
}
