//go:build linux

package cgroups

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/advice"
	"gocker/step01-pull/story"
)

// v2 is one folder for all controllers.
type v2 struct{ path string }

// newV2 makes a cgroup named name below own, or below the nearest of own's ancestors that can have it.
//
// A cgroup has the controllers that its parent switched on in cgroup.subtree_control, and a parent may do so only
// while no process is in it, the root excepted ("no internal processes"). We are in our own cgroup ourselves, so
// unless that is the root, the container's becomes our sibling or is further up.
func newV2(root, own, name string, r *specs.LinuxResources, tell story.Story) (Cgroup, error) {
	var firstErr error
	for at := filepath.Join(root, own); ; at = filepath.Dir(at) {
		err := enable(at, controllers, tell)
		if err == nil {
			cg := v2{filepath.Join(at, name)}
			if err := os.Mkdir(cg.path, 0o755); err != nil {
				return nil, fmt.Errorf("make cgroup: %w", err)
			}
			tell.Run(story.Host, "a cgroup", "mkdir", cg.path)
			if err := cg.set(r, tell); err != nil {
				return nil, errors.Join(err, remove(cg.Paths()))
			}
			return cg, nil
		}
		if firstErr == nil || !errors.Is(err, unix.EBUSY) {
			firstErr = err
		}
		if at == root {
			return nil, advice.Add(fmt.Errorf("no cgroup at or above %q can have the controllers %s: %w", filepath.Join(root, own), strings.Join(controllers, ", "), firstErr),
				"ask systemd for one of your own: systemd-run --scope -p Delegate=yes gocker …")
		}
	}
}

// controllers are what limits need. A controller that only counts costs next to nothing, so all are always wanted: what
// they count is told of containers without limits too.
var controllers = []string{"cpu", "memory", "pids"}

// enable switches controllers on for the children of a cgroup: those that are not, and all or none of them.
func enable(path string, controllers []string, tell story.Story) error {
	on, err := os.ReadFile(filepath.Join(path, "cgroup.subtree_control"))
	if err != nil {
		return err
	}
	var off []string
	for _, c := range controllers {
		if !slices.Contains(strings.Fields(string(on)), c) {
			off = append(off, "+"+c)
		}
	}
	if len(off) == 0 {
		return nil
	}
	return write(path, "cgroup.subtree_control", strings.Join(off, " "), tell)
}

func (cg v2) set(r *specs.LinuxResources, tell story.Story) error {
	if m := r.Memory; m != nil && m.Limit != nil {
		if err := write(cg.path, "memory.max", orMax(*m.Limit), tell); err != nil {
			return err
		}
		if m.Swap != nil {
			// The specification counts memory and swap together, v2 swap alone. Without swap there is no such file.
			swap := *m.Swap
			if swap >= 0 && *m.Limit >= 0 {
				swap -= *m.Limit
			}
			err := write(cg.path, "memory.swap.max", orMax(swap), tell)
			if err != nil && !errors.Is(err, ErrUnsupported) {
				return err
			}
		}
	}
	if c := r.CPU; c != nil && c.Quota != nil {
		if err := write(cg.path, "cpu.max", fmt.Sprintf("%s %d", orMax(*c.Quota), period(c)), tell); err != nil {
			return err
		}
	}
	if p := r.Pids; p != nil && p.Limit != nil && *p.Limit > 0 {
		return write(cg.path, "pids.max", *p.Limit, tell)
	}
	return nil
}

// orMax is v2's word for no limit, which the specification writes as -1.
func orMax(limit int64) string {
	if limit < 0 {
		return "max"
	}
	return strconv.FormatInt(limit, 10)
}

func (cg v2) Version() string { return "v2" }

func (cg v2) Open() (folder *os.File, doors []*os.File, err error) {
	if folder, err = os.Open(cg.path); err != nil {
		return nil, nil, err
	}
	if doors, err = openDoors(cg.Paths(), "cgroup.procs"); err != nil {
		folder.Close()
	}
	return folder, doors, err
}

func (cg v2) Add(pid int) error { return write(cg.path, "cgroup.procs", pid, nil) }

func (cg v2) Stats() (Stats, error) {
	return Stats{
		MemoryPeak: number(cg.path, "memory.peak"), // since Linux 5.19
		OOMKills:   field(cg.path, "memory.events", "oom_kill"),
		CPU:        time.Duration(field(cg.path, "cpu.stat", "usage_usec")) * time.Microsecond,
		Throttled:  field(cg.path, "cpu.stat", "nr_throttled"),
		PidsMax:    field(cg.path, "pids.events", "max"),
	}, nil
}

func (cg v2) Files(controller string) []string {
	names := map[string][]string{
		// How long processes waited for it: https://docs.kernel.org/accounting/psi.html. v1 has no such files.
		"memory": {"memory.max", "memory.peak", "memory.events", "memory.pressure"},
		"cpu":    {"cpu.max", "cpu.stat", "cpu.pressure"},
		"pids":   {"pids.max", "pids.current", "pids.events"},
	}[controller]
	var files []string
	for _, name := range names {
		files = append(files, filepath.Join(cg.path, name))
	}
	return files
}

func (cg v2) Paths() []string { return []string{cg.path} }
