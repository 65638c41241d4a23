//go:build linux

package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step04-overlay/story"
)

// v1 is a folder in the tree of each controller. Some are made only when they are wanted.
type v1 map[string]string // controller -> folder

var (
	// v1Always limit, count or protect in every container.
	v1Always = []string{"memory", "cpu", "cpuacct", "pids", "blkio"}
	// v1Rarely are made for who wants their limits. Each costs the start of a container a tenth of a millisecond.
	v1Rarely = []string{"devices", "cpuset", "freezer"}
)

// v1Trees finds our own cgroup in the tree of each controller that is mounted.
func v1Trees(mounts []*mountinfo.Info, own []byte) map[string]string {
	trees := map[string]string{}
	for _, m := range mounts {
		if m.FSType != "cgroup" {
			continue
		}
		for _, controller := range slices.Concat(v1Always, v1Rarely) {
			if slices.Contains(strings.Split(m.VFSOptions, ","), controller) {
				trees[controller] = filepath.Join(m.Mountpoint, inside(m, ownPath(own, controller)))
			}
		}
	}
	return trees
}

func newV1(trees map[string]string, name string, r *specs.LinuxResources, record func(Cgroup) error, tell story.Story) (Cgroup, error) {
	cg := v1{}
	for controller, parent := range trees {
		cg[controller] = filepath.Join(parent, name)
	}
	if err := record(cg); err != nil {
		return nil, err
	}
	var made []string
	for _, controller := range slices.Concat(v1Always, v1Rarely) {
		path, ok := cg[controller]
		if !ok || slices.Contains(made, path) { // trees may be mounted together, as cpu and cpuacct often are
			continue
		}
		if slices.Contains(v1Rarely, controller) && !wants(r, controller) {
			continue
		}
		if err := cg.makeFolder(controller, tell); err != nil {
			return nil, errors.Join(err, remove(made))
		}
		made = append(made, path)
	}
	err := cg.set(slices.Concat(v1Settings(r), cg.devices(r)), tell)
	if err != nil {
		return nil, errors.Join(err, remove(made))
	}
	return cg, nil
}

// wants tells whether resources have something to say to a controller that is made only then.
func wants(r *specs.LinuxResources, controller string) bool {
	switch controller {
	case "devices":
		return r.Devices != nil
	case "cpuset":
		return r.CPU != nil && (r.CPU.Cpus != "" || r.CPU.Mems != "")
	case "io": // v2's name
		return r.BlockIO != nil
	}
	return false
}

// makeFolder makes the folder of one controller.
func (cg v1) makeFolder(controller string, tell story.Story) error {
	path := cg[controller]
	err := os.Mkdir(path, 0o755)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
			err = os.Mkdir(path, 0o755)
		}
	}
	if err != nil {
		return fmt.Errorf("make cgroup: %w", err)
	}
	tell.Run(story.Host, "a cgroup for "+controller, "mkdir", "-p", path)
	if controller == "cpuset" {
		return inheritSet(path, tell)
	}
	return nil
}

// inheritSet gives a new cpuset what its parent has: as it is made it has no processor, and no process may be in it.
func inheritSet(path string, tell story.Story) error {
	parent := filepath.Dir(path)
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		if has(path, file) {
			continue
		}
		if !has(parent, file) && parent != path {
			if err := inheritSet(parent, tell); err != nil {
				return err
			}
		}
		raw, err := os.ReadFile(filepath.Join(parent, file))
		if err != nil {
			return err
		}
		value := strings.TrimSpace(string(raw))
		if err := write(path, file, value); err != nil {
			return err
		}
		tell.Write(story.Host, "a new cpuset has nothing, and no process may be in it", filepath.Join(path, file), value)
	}
	return nil
}

// has tells whether a file has something in it.
func has(path, file string) bool {
	raw, err := os.ReadFile(filepath.Join(path, file))
	return err == nil && strings.TrimSpace(string(raw)) != ""
}

// v1Settings is what resources are in the words of v1. Those for devices are apart: see devices.
func v1Settings(r *specs.LinuxResources) (s []setting) {
	add := func(limit, controller, file string, value any) {
		s = append(s, setting{limit, controller, file, value})
	}
	if m := r.Memory; m != nil {
		if m.Limit != nil {
			add("memory", "memory", "memory.limit_in_bytes", *m.Limit)
		}
		if m.Swap != nil {
			add("memory and swap", "memory", "memory.memsw.limit_in_bytes", *m.Swap) // together
		}
		if m.Reservation != nil {
			add("memory reservation", "memory", "memory.soft_limit_in_bytes", *m.Reservation)
		}
	}
	if c := r.CPU; c != nil {
		if c.Shares != nil {
			add("CPU shares", "cpu", "cpu.shares", *c.Shares)
		}
		if c.Period != nil {
			add("CPU period", "cpu", "cpu.cfs_period_us", *c.Period)
		}
		if c.Quota != nil {
			add("CPU quota", "cpu", "cpu.cfs_quota_us", *c.Quota)
		}
		if c.Cpus != "" {
			add("cpuset of processors", "cpuset", "cpuset.cpus", c.Cpus)
		}
		if c.Mems != "" {
			add("cpuset of memory nodes", "cpuset", "cpuset.mems", c.Mems)
		}
	}
	if p := r.Pids; p != nil && p.Limit != nil {
		add("pids", "pids", "pids.max", orMax(*p.Limit))
	}
	if b := r.BlockIO; b != nil {
		if b.Weight != nil {
			add("block IO weight", "blkio", "blkio.bfq.weight", *b.Weight)
		}
		throttle := func(limit, file string, devices []specs.LinuxThrottleDevice) {
			for _, d := range devices {
				add(limit, "blkio", "blkio.throttle."+file, fmt.Sprintf("%d:%d %d", d.Major, d.Minor, d.Rate))
			}
		}
		throttle("bytes read a second", "read_bps_device", b.ThrottleReadBpsDevice)
		throttle("bytes written a second", "write_bps_device", b.ThrottleWriteBpsDevice)
		throttle("reads a second", "read_iops_device", b.ThrottleReadIOPSDevice)
		throttle("writes a second", "write_iops_device", b.ThrottleWriteIOPSDevice)
	}
	return s
}

func (cg v1) set(settings []setting, tell story.Story) error {
	// Memory is never more than memory and swap, at no moment: who raises both has to begin with the latter.
	if at := slices.IndexFunc(settings, func(s setting) bool { return s.file == "memory.memsw.limit_in_bytes" }); at > 0 {
		now := number(cg["memory"], "memory.memsw.limit_in_bytes")
		if swap := settings[at].value.(int64); swap < 0 || uint64(swap) > now {
			settings[at-1], settings[at] = settings[at], settings[at-1]
		}
	}
	for _, s := range settings {
		path, ok := cg[s.controller]
		if !ok {
			return fmt.Errorf("limit %s: controller %s: %w", s.limit, s.controller, ErrUnsupported)
		}
		err := write(path, s.file, s.value)
		if errors.Is(err, ErrUnsupported) && s.file == "memory.memsw.limit_in_bytes" {
			continue // a kernel that does not count swap: the limit of memory holds
		}
		if err != nil {
			return fmt.Errorf("limit %s: %w", s.limit, err)
		}
		tell.Write(story.Host, "limit "+s.limit, filepath.Join(path, s.file), s.value)
	}
	return nil
}

func (cg v1) Update(r *specs.LinuxResources) error {
	if err := cg.enter("cpuset", wants(r, "cpuset")); err != nil {
		return err
	}
	return cg.set(v1Settings(r), nil)
}

// enter makes the folder of a controller for processes that run already, if it is wanted, and moves them in.
func (cg v1) enter(controller string, wanted bool) error {
	path, ok := cg[controller]
	if !wanted || !ok { // set says that it is missing
		return nil
	}
	if err := cg.makeLater(controller); err != nil {
		return err
	}
	// Those that are inside have their children there. Others may have some while we look.
	return await("move the processes to "+path, func() bool {
		all, err1 := cg.Pids()
		there, err2 := pidsBelow(path)
		moved := err1 == nil && err2 == nil
		for _, pid := range all {
			if !slices.Contains(there, pid) {
				moved = false
				write(path, "cgroup.procs", pid) // it may have ended
			}
		}
		return moved
	})
}

// makeLater makes the folder of a controller for a container that runs, if it is not there. Whoever runs the container
// may be removing its folders at this moment: it removes that of pids before all that are made later.
func (cg v1) makeLater(controller string) error {
	if err := cg.makeFolder(controller, nil); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if _, err := os.Stat(cg["pids"]); err != nil {
		return errors.Join(err, remove([]string{cg[controller]}))
	}
	return nil
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
		if err := write(path, "cgroup.procs", pid); err != nil {
			return err
		}
	}
	return nil
}

func (cg v1) Pids() ([]int, error) { return pidsBelow(cg["pids"]) }

// Freeze has to move the processes first: the folder of the freezer is made for who freezes. One that comes into a frozen
// cgroup is frozen, so none can flee by forking.
func (cg v1) Freeze() error {
	if _, ok := cg["freezer"]; !ok {
		return fmt.Errorf("freeze: controller freezer: %w", ErrUnsupported)
	}
	if err := cg.makeLater("freezer"); err != nil {
		return err
	}
	err := write(cg["freezer"], "freezer.state", "FROZEN")
	if err == nil {
		err = cg.enter("freezer", true)
	}
	if err == nil {
		err = await("freeze", func() bool { // FREEZING until then
			write(cg["freezer"], "freezer.state", "FROZEN") // again: one that was forked just now may have missed it
			return cg.Frozen()
		})
	}
	if err != nil {
		return errors.Join(err, cg.Thaw())
	}
	return nil
}

func (cg v1) Thaw() error { return write(cg["freezer"], "freezer.state", "THAWED") }

func (cg v1) Frozen() bool {
	raw, err := os.ReadFile(filepath.Join(cg["freezer"], "freezer.state"))
	return err == nil && strings.TrimSpace(string(raw)) == "FROZEN"
}

func (cg v1) Stats() (Stats, error) {
	s := Stats{
		MemoryPeak:  number(cg["memory"], "memory.max_usage_in_bytes"),
		MemoryLimit: number(cg["memory"], "memory.limit_in_bytes"),
		MemoryMax:   number(cg["memory"], "memory.failcnt"),
		OOMKills:    cg.OOMKills(),
		CPU:         time.Duration(number(cg["cpuacct"], "cpuacct.usage")),
		Throttled:   field(cg["cpu"], "cpu.stat", "nr_throttled"),
		Pids:        number(cg["pids"], "pids.current"),
		PidsMax:     field(cg["pids"], "pids.events", "max"),
	}
	usage := number(cg["memory"], "memory.usage_in_bytes")
	s.Memory = usage - min(usage, field(cg["memory"], "memory.stat", "total_inactive_file"))
	// Lines are "8:0 Read 4096", and at the end "Total 4096".
	raw, _ := os.ReadFile(filepath.Join(cg["blkio"], "blkio.throttle.io_service_bytes_recursive"))
	for line := range strings.Lines(string(raw)) {
		if fields := strings.Fields(line); len(fields) == 3 {
			n, _ := strconv.ParseUint(fields[2], 10, 64)
			switch fields[1] {
			case "Read":
				s.Read += n
			case "Write":
				s.Written += n
			}
		}
	}
	return s, nil
}

func (cg v1) OOMKills() uint64 { return field(cg["memory"], "memory.oom_control", "oom_kill") }

func (cg v1) Files(controller string) []string {
	names := map[string][]string{
		"memory":  {"memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.failcnt", "memory.oom_control"},
		"cpu":     {"cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.stat"},
		"pids":    {"pids.max", "pids.current", "pids.events"},
		"devices": {"devices.list"},
	}[controller]
	var files []string
	for _, name := range names {
		files = append(files, filepath.Join(cg[controller], name))
	}
	return files
}

// Paths are the folders that are there.
func (cg v1) Paths() []string {
	paths := slices.DeleteFunc(cg.all(), func(path string) bool {
		_, err := os.Stat(path)
		return errors.Is(err, fs.ErrNotExist)
	})
	slices.Sort(paths)
	return slices.Compact(paths)
}

// all are the folders, whether they are there or not, in the order in which they can be removed. What is frozen does not
// die, so the freezer's is the first. It is the last too: see makeLater.
func (cg v1) all() (paths []string) {
	order := slices.Concat([]string{"freezer", "pids"}, slices.Sorted(maps.Keys(cg)), []string{"freezer"})
	for i, controller := range order {
		path, ok := cg[controller]
		if ok && (i == len(order)-1 || !slices.Contains(paths, path)) {
			paths = append(paths, path)
		}
	}
	return paths
}
