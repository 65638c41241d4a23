//go:build linux

package trees

import (
	"fmt"
	"slices"
	"strings"

	"gocker/step04-overlay/check"
)

// Check tells whether this machine has the controllers that are needed.
func Check(needed ...string) check.Result {
	const name, breaks = "cgroups", "containers have no limits, and do not start"
	t, err := Find()
	if err != nil {
		return check.Miss(name, err.Error(), breaks, "mount /proc")
	}
	mode, have := t.Mode()
	if mode == "none" {
		return check.Miss(name, "no cgroup file system is mounted", breaks, "mount -t cgroup2 none /sys/fs/cgroup")
	}
	for _, controller := range needed {
		if slices.Contains(have, controller) {
			continue
		}
		mend := "start the kernel with cgroup_enable=" + controller
		switch {
		case mode != "v2" && enabled(controller):
			mend = fmt.Sprintf("mkdir -p /sys/fs/cgroup/%[1]s && mount -t cgroup -o %[1]s cgroup /sys/fs/cgroup/%[1]s", controller)
		case mode == "v2" && enabled(controller):
			mend = fmt.Sprintf("the parent cgroup must give it: echo +%s > …/cgroup.subtree_control there, or Delegate=yes in the unit", controller)
		}
		return check.Miss(name, fmt.Sprintf("%s, without the controller %s", mode, controller), breaks, mend)
	}
	return check.Good(name, "%s, with %s", mode, strings.Join(have, ", "))
}

// enabled tells whether the kernel has a controller, mounted or not: see /proc/cgroups in cgroups(7).
func enabled(controller string) bool {
	for line := range strings.Lines(check.Text("/proc/cgroups")) {
		if fields := strings.Fields(line); len(fields) == 4 && fields[0] == controller {
			return fields[3] == "1"
		}
	}
	return false
}
