//go:build linux

// Package trees finds the cgroup file systems of this machine, and the cgroup that this process is in.
//
// With v2 there is one tree for all controllers, with v1 one for each, or for some together. A controller can be in the
// trees of one version only. "hybrid" is v1 with a tree of v2 beside it, which has no controllers.
//
// See cgroups(7).
package trees

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"

	"gocker/step04-overlay/check"
)

// Trees are all that are mounted.
type Trees struct {
	V2 Tree            // its Root is "" where there is none
	V1 map[string]Tree // by controller
}

// A Tree is a folder with folders. Each is a cgroup.
type Tree struct{ Root, Own string } // where it is mounted; and the folder of the cgroup that we are in

// At is the folder that a path begins in: the root if it begins with "/", else our own.
func (t Tree) At(path string) string {
	if filepath.IsAbs(path) {
		return t.Root
	}
	return t.Own
}

// known are the controllers of v1 that somebody here asks for. A mount has other options too.
var known = []string{"blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids"}

// Find finds them.
func Find() (Trees, error) {
	mounts, err := read()
	if err != nil {
		return Trees{}, fmt.Errorf("read mountinfo: %w", err)
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return Trees{}, err
	}
	trees := Trees{V1: map[string]Tree{}}
	for _, m := range mounts {
		if m.FSType == "cgroup2" {
			trees.V2 = find(m, own, "")
			continue
		}
		for option := range strings.SplitSeq(m.VFSOptions, ",") { // "rw,cpu,cpuacct" has two
			if slices.Contains(known, option) {
				trees.V1[option] = find(m, own, option)
			}
		}
	}
	return trees, nil
}

// read reads what the first thread has mounted. That thread never leaves the namespaces that it began in: see check.OnThread.
//
// mountinfo.GetMounts would read /proc/thread-self. Then the kernel keeps a name for the thread there. When the process ends, the
// thread and the process that waits for it both remove this name, and each waits for the other: that can take milliseconds.
func read() ([]*mountinfo.Info, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return mountinfo.GetMountsFromReader(f, mountinfo.FSTypeFilter("cgroup", "cgroup2"))
}

// find finds our cgroup in the lines of /proc/self/cgroup, "4:memory:/user" or "0::/user", which is v2's. The mount may
// show only a part of the whole tree.
func find(m *mountinfo.Info, own []byte, controller string) Tree {
	for line := range strings.Lines(string(own)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 || !slices.Contains(strings.Split(parts[1], ","), controller) {
			continue
		}
		if below, err := filepath.Rel(m.Root, parts[2]); err == nil && filepath.IsLocal(below) {
			return Tree{m.Mountpoint, filepath.Join(m.Mountpoint, below)}
		}
	}
	return Tree{m.Mountpoint, m.Mountpoint}
}

// Mode says which kind of cgroups this machine has: "v1", "v2", "hybrid" or "none".
func (t Trees) Mode() (mode string, controllers []string) {
	switch {
	case len(t.V1) > 0 && t.V2.Root != "":
		return "hybrid", slices.Sorted(maps.Keys(t.V1))
	case len(t.V1) > 0:
		return "v1", slices.Sorted(maps.Keys(t.V1))
	case t.V2.Root != "":
		return "v2", strings.Fields(check.Text(filepath.Join(t.V2.Root, "cgroup.controllers")))
	}
	return "none", nil
}
