//go:build linux

package trees

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"gocker/step04-overlay/check"
)

// Check tells whether this machine has the controllers that are needed.
func Check(needed ...string) check.Result {
	const name, breaks = "cgroups", "containers have no limits, and do not start"
	t, err := Find()
	if err != nil {
		return check.Miss(name, err.Error(), breaks, check.Proc().Mend)
	}
	mode, have := t.Mode()
	kernel := kernelControllers()
	if mode == "none" {
		return check.Miss(name, "no cgroup file system is mounted", breaks, mountAll(kernel))
	}
	for _, controller := range needed {
		if slices.Contains(have, controller) {
			continue
		}
		mend := "start the kernel with cgroup_enable=" + controller
		switch {
		case mode != "v2" && kernel[controller].enabled:
			mend = mountV1(v1Tree(controller, kernel))
		case mode == "v2" && kernel[controller].enabled:
			mend = fmt.Sprintf("the parent cgroup must give it: echo +%s > …/cgroup.subtree_control there, or Delegate=yes in the unit", controller)
		}
		return check.Miss(name, fmt.Sprintf("%s, without the controller %s", mode, controller), breaks, mend)
	}
	return check.Good(name, "%s, with %s", mode, strings.Join(have, ", "))
}

// A kernelController is what the kernel says of a controller, mounted or not.
type kernelController struct {
	enabled bool
	tree    string // the number of its tree of v1; "0" is none
}

func (c kernelController) inV1() bool { return c.tree != "0" && c.tree != "" }

// kernelControllers reads /proc/cgroups: see cgroups(7).
func kernelControllers() map[string]kernelController {
	all := map[string]kernelController{}
	for line := range strings.Lines(check.Text("/proc/cgroups")) {
		if fields := strings.Fields(line); len(fields) == 4 {
			all[fields[0]] = kernelController{fields[3] == "1", fields[1]}
		}
	}
	return all
}

// mountAll is the command that mounts cgroups where none are. A controller that is in a tree of v1 is in none of v2.
func mountAll(kernel map[string]kernelController) string {
	command := ""
	var fs unix.Statfs_t
	if err := unix.Statfs("/sys", &fs); err != nil || fs.Type != unix.SYSFS_MAGIC { // which has the folder fs/cgroup
		command = "mount -t sysfs sysfs /sys && "
	}
	var v1 []string
	for _, name := range known {
		if tree := v1Tree(name, kernel); kernel[name].inV1() && !slices.Contains(v1, tree) {
			v1 = append(v1, tree)
		}
	}
	if len(v1) == 0 {
		return command + "mount -t cgroup2 cgroup2 /sys/fs/cgroup"
	}
	return command + "mount -t tmpfs tmpfs /sys/fs/cgroup && for c in " + strings.Join(v1, " ") + "; do " + mountV1("$c") + "; done"
}

// mountV1 is the command that mounts a tree of v1.
func mountV1(tree string) string {
	return fmt.Sprintf("mkdir -p /sys/fs/cgroup/%[1]s && mount -t cgroup -o %[1]s cgroup /sys/fs/cgroup/%[1]s", tree)
}

// v1Tree is what mount(8) calls the tree that a controller is in: all that are in it, "cpu,cpuacct".
func v1Tree(name string, kernel map[string]kernelController) string {
	if !kernel[name].inV1() { // not yet
		return name
	}
	var names []string
	for other, c := range kernel {
		if c.tree == kernel[name].tree {
			names = append(names, other)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}
