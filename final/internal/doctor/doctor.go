//go:build linux

// Package doctor says what this machine can do. The checks are those of the packages that need what they check.
package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"gocker/final/internal/firewall"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/usernamespace"
	"gocker/step04-overlay/check"
	"gocker/step04-overlay/overlaycheck"
	"gocker/step05-namespaces/nscheck"
	"gocker/step06-cgroups/cgroups"
	"gocker/step06-cgroups/trees"
)

// Run makes all checks. bridge is the device of the default network.
func Run(d dirs.Dirs, bridge string) []check.Result {
	all := []check.Result{check.Space("space for images", d.Root), check.Space("space for locks", d.Run)}
	all = append(all, overlaycheck.Results(d.AllLasting())...)
	all = append(all, nscheck.Results()...)
	all = append(all, kernel())
	all = append(all, trees.Check(cgroups.Controllers...), limits())
	all = append(all, propagation(), proc(), inside())
	all = append(all, withoutRoot(d)...)
	all = append(all, ofUser()...)
	all = append(all, seccomp(), memory())
	if !usernamespace.Inside() {
		all = append(all, firewall.Checks(bridge)...)
	}
	// Several packages ask for the same thing first.
	seen := map[string]bool{}
	var results []check.Result
	for _, r := range all {
		if !seen[r.Name] {
			seen[r.Name] = true
			results = append(results, r)
		}
	}
	return results
}

// CanRun tells whether all that containers need is there.
func CanRun(results []check.Result) bool {
	for _, r := range results {
		if r.Required && !r.OK {
			return false
		}
	}
	return true
}

// limits checks that this process can give limits to containers, by making a cgroup.
func limits() check.Result {
	const name, breaks = "limits", "containers have no limits, and do not start"
	cg, err := cgroups.New(nil, fmt.Sprintf("gocker-check-%d", os.Getpid()))
	if err == nil {
		path := filepath.Dir(cgroups.Paths(cg)[0])
		if err = cgroups.Remove(cg); err == nil {
			return check.Good(name, "can be set, below %s", path)
		}
	}
	mend := "write access to the cgroup that this process is in: as root on the host, or delegated by systemd-run --scope -p Delegate=yes"
	if errors.Is(err, unix.EROFS) {
		mend = "mount -o remount,rw /sys/fs/cgroup, or start this container with its own writable cgroups (docker run --privileged --cgroupns=private)"
	}
	if usernamespace.Inside() {
		return check.Miss(name, err.Error(), "containers have no limits, and none starts that is to have some", advice.Of(err)).Optional()
	}
	return check.Miss(name, err.Error(), breaks, mend)
}

// propagation is about / being a shared mount, as systemd makes it. gocker does not mind; a shell command does.
func propagation() check.Result {
	const name = "mount propagation"
	for line := range strings.Lines(check.Text("/proc/self/mountinfo")) {
		fields := strings.Fields(line)
		if len(fields) < 7 || fields[4] != "/" {
			continue
		}
		if strings.HasPrefix(fields[6], "shared:") {
			return check.Good(name, "/ is shared, as systemd makes it: containers make their copy private").Optional()
		}
		return check.Good(name, "/ is not shared").Optional()
	}
	return check.Miss(name, "/ is no mount point", "containers do not start: they cannot leave this root folder", check.Chroot)
}

// seccomp filters are not used yet: see seccomp(2).
func seccomp() check.Result {
	if actions := check.Text("/proc/sys/kernel/seccomp/actions_avail"); actions != "" {
		return check.Good("seccomp", "%s", actions).Optional()
	}
	return check.Miss("seccomp", "this kernel has no filters", "system calls cannot be denied to containers", "a kernel with CONFIG_SECCOMP_FILTER").Optional()
}

func withoutRoot(d dirs.Dirs) []check.Result {
	partial, err := dirs.NewPartial(d.AllLasting())
	if err != nil {
		return nil // the check of the space said so
	}
	defer partial.Discard()
	return userNamespaces(partial.Path)
}

// memory is what the experiments of step06-cgroups want: room beside the limit that is to be reached, not beyond it.
func memory() check.Result {
	const name, want = "memory", 128 // MB
	file, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return check.Miss(name, err.Error(), "experiments", "mount /proc").Optional()
	}
	var kB int
	for line := range strings.Lines(string(file)) {
		if _, err := fmt.Sscanf(line, "MemAvailable: %d kB", &kB); err == nil {
			break
		}
	}
	if mb := kB / 1000; mb < want {
		return check.Miss(name, fmt.Sprintf("%d MB are available", mb), "the memory experiment may end other processes", fmt.Sprintf("end something else until there are %d MB", want)).Optional()
	}
	return check.Good(name, "%d MB are available", kB/1000).Optional()
}
