//go:build linux

package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/rootfs"
)

// cgroupFileSystems is the part that mounts cgroup file systems. Such a one shows the cgroup namespace of the process that
// mounts it, so the child does that. "cgroup" is the specification's word for whichever version the host has.
func cgroupFileSystems(spec *specs.Spec) namespaces.Part {
	var proc []byte // what the host's /proc/self/cgroup says
	return namespaces.Part{
		Outside: func() (err error) {
			if slices.ContainsFunc(spec.Mounts, isCgroup) {
				proc, err = os.ReadFile("/proc/self/cgroup")
			}
			return err
		},
		Mount: func(root *rootfs.Root, m specs.Mount) (bool, error) {
			if !isCgroup(m) {
				return false, nil
			}
			folder, trees := cgroupMounts(m, proc)
			if folder != nil {
				if err := root.Mount(*folder); err != nil {
					return true, err
				}
			}
			for _, tree := range trees {
				if err := root.LeaveToChild(tree); err != nil {
					return true, err
				}
				for _, name := range shortNames(tree) {
					if err := os.Symlink(filepath.Base(tree.Destination), name); err != nil {
						return true, fmt.Errorf("make a name of a tree of cgroups: %w", err)
					}
				}
			}
			return true, nil
		},
	}
}

func isCgroup(m specs.Mount) bool { return m.Type == "cgroup" }

// cgroupMounts is what a mount of type cgroup is on this host: with cgroup v2 one tree, with v1 a tmpfs with a folder for
// each hierarchy. proc is what /proc/self/cgroup says. See cgroups(7), and /proc/[pid]/cgroup there.
func cgroupMounts(m specs.Mount, proc []byte) (folder *specs.Mount, trees []specs.Mount) {
	for line := range strings.Lines(string(proc)) {
		parts := strings.SplitN(line, ":", 3)
		if len(parts) == 3 && parts[1] != "" && !strings.HasPrefix(parts[1], "name=") { // which has no controllers
			tree := m
			tree.Destination, tree.Options = filepath.Join(m.Destination, parts[1]), append(slices.Clone(m.Options), parts[1])
			trees = append(trees, tree)
		}
	}
	if trees == nil {
		m.Type = "cgroup2"
		return nil, []specs.Mount{m}
	}
	options := slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "ro" }) // until its folders are made
	return &specs.Mount{Destination: m.Destination, Type: "tmpfs", Source: "cgroup", Options: append(options, "mode=755", "size=1m")}, trees
}

// shortNames are those of a tree that has several controllers, "cpu,cpuacct": it is known by each.
func shortNames(tree specs.Mount) (names []string) {
	folder, all := filepath.Split(tree.Destination)
	if strings.Contains(all, ",") {
		for controller := range strings.SplitSeq(all, ",") {
			names = append(names, filepath.Join(folder, controller))
		}
	}
	return names
}
