//go:build linux

package cgroups

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step01-pull/story"
)

// v1 is a folder in the tree of each controller.
type v1 map[string]string // controller -> folder

// v1Trees finds our own cgroup in the tree of each controller that is mounted.
func v1Trees(mounts []*mountinfo.Info, own []byte) map[string]string {
	trees := map[string]string{}
	for _, m := range mounts {
		if m.FSType != "cgroup" {
			continue
		}
		for _, controller := range []string{"memory", "cpu", "cpuacct", "pids"} {
			if slices.Contains(strings.Split(m.VFSOptions, ","), controller) {
				trees[controller] = filepath.Join(m.Mountpoint, inside(m, ownPath(own, controller)))
			}
		}
	}
	return trees
}

func newV1(trees map[string]string, name string, r *specs.LinuxResources, tell story.Story) (Cgroup, error) {
	cg := v1{}
	for controller, parent := range trees {
		path := filepath.Join(parent, name)
		// Trees may be mounted together, as cpu and cpuacct often are: then one folder serves both.
		switch err := os.Mkdir(path, 0o755); {
		case err == nil:
			tell.Run(story.Host, "a cgroup for "+controller, "mkdir", path)
		case !slices.Contains(cg.Paths(), path):
			return nil, errors.Join(fmt.Errorf("make cgroup: %w", err), remove(cg.Paths()))
		}
		cg[controller] = path
	}
	if err := cg.set(r, tell); err != nil {
		return nil, errors.Join(err, remove(cg.Paths()))
	}
	return cg, nil
}

func (cg v1) set(r *specs.LinuxResources, tell story.Story) error {
	var writes []struct {
		controller, file string
		value            int64
	}
	set := func(controller, file string, value int64) {
		writes = append(writes, struct {
			controller, file string
			value            int64
		}{controller, file, value})
	}
	if m := r.Memory; m != nil && m.Limit != nil {
		set("memory", "memory.limit_in_bytes", *m.Limit)
		if m.Swap != nil && cg.has("memory", "memory.memsw.limit_in_bytes") {
			set("memory", "memory.memsw.limit_in_bytes", *m.Swap) // memory and swap together
		}
	}
	if c := r.CPU; c != nil && c.Quota != nil {
		set("cpu", "cpu.cfs_period_us", period(c))
		set("cpu", "cpu.cfs_quota_us", *c.Quota)
	}
	if p := r.Pids; p != nil && p.Limit != nil && *p.Limit > 0 {
		set("pids", "pids.max", *p.Limit)
	}
	for _, w := range writes {
		path, ok := cg[w.controller]
		if !ok {
			return fmt.Errorf("limit %s: %w", w.controller, ErrUnsupported)
		}
		if err := write(path, w.file, w.value, tell); err != nil {
			return err
		}
	}
	return nil
}

func (cg v1) has(controller, file string) bool {
	_, err := os.Stat(filepath.Join(cg[controller], file))
	return err == nil
}

func (cg v1) Version() string { return "v1" }

// Open opens the files "tasks": they take one thread, and a process that is to be moved by itself has only one. What is
// written to cgroup.procs may be about any process: then the kernel stops all forks and exits of the machine, which
// takes milliseconds.
func (cg v1) Open() (folder *os.File, doors []*os.File, err error) {
	doors, err = openDoors(cg.Paths(), "tasks")
	return nil, doors, err
}

func (cg v1) Add(pid int) error {
	for _, path := range cg.Paths() {
		if err := write(path, "cgroup.procs", pid, nil); err != nil {
			return err
		}
	}
	return nil
}

func (cg v1) Stats() (Stats, error) {
	return Stats{
		MemoryPeak: number(cg["memory"], "memory.max_usage_in_bytes"),
		OOMKills:   field(cg["memory"], "memory.oom_control", "oom_kill"),
		CPU:        time.Duration(number(cg["cpuacct"], "cpuacct.usage")),
		Throttled:  field(cg["cpu"], "cpu.stat", "nr_throttled"),
		PidsMax:    field(cg["pids"], "pids.events", "max"),
	}, nil
}

func (cg v1) Files(controller string) []string {
	names := map[string][]string{
		"memory": {"memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.failcnt", "memory.oom_control"},
		"cpu":    {"cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.stat"},
		"pids":   {"pids.max", "pids.current", "pids.events"},
	}[controller]
	var files []string
	for _, name := range names {
		files = append(files, filepath.Join(cg[controller], name))
	}
	return files
}

func (cg v1) Paths() []string {
	var paths []string
	for _, path := range cg {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return slices.Compact(paths)
}
