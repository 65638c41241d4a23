//go:build linux

package resources

import (
	"os"
	"path/filepath"

	"gocker/step06-cgroups/cgroups"
	"gocker/step06-cgroups/counters"
)

// A Limit is one that stands in some cgroup.
type Limit struct {
	Dir   string // the cgroup's folder
	Value uint64 // bytes or processes
	Left  uint64 // until it is reached
}

// noLimit is less than what v1 shows where there is no limit of memory: the largest number, rounded down to pages.
const noLimit = 1 << 62

// LimitsOf are the limits of "memory" or "pids" that hold for a cgroup: its own, if it has one, and those of the cgroups above. A
// process counts in all of them, and each may refuse it more.
func LimitsOf(cg cgroups.Cgroup, controller string) (limits []Limit) {
	most, now := "pids.max", "pids.current"
	if controller == "memory" {
		most, now = cg.Word("memory.max", "memory.limit_in_bytes"), cg.Word("memory.current", "memory.usage_in_bytes")
	}
	for dir := folder(cg, controller); ; dir = filepath.Dir(dir) {
		file := filepath.Join(dir, most)
		if _, err := os.Stat(file); err != nil {
			return limits // the root has none
		}
		if value := counters.Number(file, ""); value > 0 && value < noLimit { // 0 is "max"
			limits = append(limits, Limit{dir, value, value - min(value, counters.Number(filepath.Join(dir, now), ""))})
		}
	}
}

// RefusedForks tells whether the limit has refused a process, in its cgroup or in one below it. known is false where the
// kernel counts that in the cgroup of the process that asked, whichever cgroup's limit it was: with v1, and with v2 before Linux 6.11.
func (l Limit) RefusedForks() (refused, known bool) {
	file := filepath.Join(l.Dir, "pids.events.local")
	_, err := os.Stat(file)
	return counters.Number(file, "max") > 0, err == nil
}
