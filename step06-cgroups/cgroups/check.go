//go:build linux

package cgroups

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step04-overlay/check"
)

// Checks tells whether this process can give limits to containers, by making a cgroup.
func Checks() []check.Result {
	results := []check.Result{check.Privilege(), checkControllers()}
	if !results[0].OK || !results[1].OK {
		return results
	}
	return append(results, checkLimits())
}

// Mode says which kind of cgroups this machine has: "v1", "v2", "hybrid" or "none".
func Mode() (mode string, controllers []string, err error) {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return "", nil, fmt.Errorf("read mountinfo: %w", err)
	}
	v1, v2 := v1Trees(mounts, nil), ""
	for _, m := range mounts {
		if m.FSType == "cgroup2" {
			v2 = m.Mountpoint
		}
	}
	switch {
	case len(v1) > 0:
		for controller := range v1 {
			controllers = append(controllers, controller)
		}
		slices.Sort(controllers)
		if v2 != "" {
			return "hybrid", controllers, nil
		}
		return "v1", controllers, nil
	case v2 != "":
		return "v2", strings.Fields(check.Text(filepath.Join(v2, "cgroup.controllers"))), nil
	}
	return "none", nil, nil
}

const (
	limitsName   = "cgroups"
	limitsBreaks = "containers have no limits, and do not start"
)

func checkControllers() check.Result {
	mode, have, err := Mode()
	if err != nil {
		return check.Miss(limitsName, err.Error(), limitsBreaks, "mount /proc")
	}
	if mode == "none" {
		return check.Miss(limitsName, "no cgroup file system is mounted", limitsBreaks, "mount -t cgroup2 none /sys/fs/cgroup")
	}
	for _, controller := range controllers {
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
		return check.Miss(limitsName, fmt.Sprintf("%s, without the controller %s", mode, controller), limitsBreaks, mend)
	}
	return check.Good(limitsName, "%s, with %s", mode, strings.Join(have, ", "))
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

func checkLimits() check.Result {
	cg, err := New(fmt.Sprintf("gocker-check-%d", os.Getpid()), &specs.LinuxResources{}, nil)
	if err == nil {
		path := filepath.Dir(cg.Paths()[0])
		if err = Remove(cg, nil); err == nil {
			return check.Good("limits", "can be set, below %s", path)
		}
	}
	mend := "write access to the cgroup that this process is in: as root on the host, or delegated by systemd-run --scope -p Delegate=yes"
	if errors.Is(err, unix.EROFS) {
		mend = "mount -o remount,rw /sys/fs/cgroup, or start this container with its own writable cgroups (docker run --privileged --cgroupns=private)"
	}
	return check.Miss("limits", err.Error(), limitsBreaks, mend)
}
