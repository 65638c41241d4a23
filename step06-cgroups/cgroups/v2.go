//go:build linux

package cgroups

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step04-overlay/story"
)

// v2 is one folder for all controllers.
type v2 struct{ path string }

// newV2 makes a cgroup below own, or below the nearest of own's ancestors that can have it.
//
// A cgroup has the controllers that its parent switched on in cgroup.subtree_control, and a parent may do so only
// while no process is in it, the root excepted ("no internal processes"). We are in our own cgroup ourselves, so
// unless that is the root, the container's becomes our sibling or is further up.
func newV2(root, own, name string, r *specs.LinuxResources, record func(Cgroup) error, tell story.Story) (Cgroup, error) {
	want := slices.Concat(controllers, v2Controllers(r))
	var firstErr error
	for at := filepath.Join(root, own); ; at = filepath.Dir(at) {
		handDown(filepath.Dir(at), limited(r), tell)
		err := enable(at, want, tell)
		if err == nil {
			return makeV2(at, name, want, r, record, tell)
		}
		if firstErr == nil || !errors.Is(err, unix.EBUSY) {
			firstErr = err
		}
		if at == root {
			return nil, advice.Add(fmt.Errorf("no cgroup at or above %q can have the controllers %s: %w", filepath.Join(root, own), strings.Join(want, ", "), firstErr),
				"ask systemd for one of your own: systemd-run --scope -p Delegate=yes gocker …")
		}
	}
}

// makeV2 makes the cgroup name below at, with all folders on the way, which hand the controllers on.
func makeV2(at, name string, want []string, r *specs.LinuxResources, record func(Cgroup) error, tell story.Story) (Cgroup, error) {
	cg := v2{filepath.Join(at, name)}
	parent := at
	for part := range strings.SplitSeq(strings.Trim(filepath.Dir(filepath.Clean("/"+name)), "/"), "/") {
		if part == "" {
			continue
		}
		parent = filepath.Join(parent, part)
		err := os.Mkdir(parent, 0o755)
		if err == nil || errors.Is(err, os.ErrExist) {
			err = enable(parent, want, tell)
		}
		if err != nil {
			return nil, fmt.Errorf("make the parent of cgroup %q: %w", cg.path, err)
		}
	}
	if err := record(cg); err != nil {
		return nil, err
	}
	if err := os.Mkdir(cg.path, 0o755); err != nil {
		return nil, fmt.Errorf("make cgroup: %w", err)
	}
	tell.Run(story.Host, "a cgroup", "mkdir", "-p", cg.path)
	err := cg.set(r, tell)
	if err == nil && r.Devices != nil {
		err = cg.guardDevices(r.Devices)
		tell.Sh(story.Host, "a program of the kernel says which devices may be opened",
			"# bpftool cgroup attach can do it, with a program that is loaded already; a shell cannot write one")
	}
	if err != nil {
		return nil, errors.Join(err, remove(cg.Paths()))
	}
	return cg, nil
}

// controllers are what limits need. A controller that only counts costs next to nothing, so all are always wanted: what
// they count is told of containers without limits too.
var controllers = []string{"cpu", "memory", "pids"}

// v2Controllers are those that are wanted beside them. io counts, so it is on wherever it is.
func v2Controllers(r *specs.LinuxResources) []string {
	return slices.Compact(append(limited(r), "io"))
}

// limited are the controllers beside those above that a limit needs.
func limited(r *specs.LinuxResources) (needed []string) {
	for _, c := range []string{"cpuset", "io"} {
		if wants(r, c) {
			needed = append(needed, c)
		}
	}
	return needed
}

// handDown switches controllers on in a cgroup and in all above it: systemd gives its slices only what its units ask for,
// and no cgroup has what the one above does not hand down. Where that cannot be, the limit finds no file.
func handDown(path string, want []string, tell story.Story) {
	if len(want) == 0 {
		return
	}
	if _, err := os.Stat(filepath.Join(path, "cgroup.controllers")); err != nil {
		return // above the root
	}
	handDown(filepath.Dir(path), want, tell)
	enable(path, want, tell)
}

// enable switches controllers on for the children of a cgroup: those that are not, and all or none of them. One that
// is not to be had is an error only if it is one of controllers: a limit that needs another finds no file.
func enable(path string, want []string, tell story.Story) error {
	on, err := os.ReadFile(filepath.Join(path, "cgroup.subtree_control"))
	if err != nil {
		return err
	}
	var off []string
	for _, c := range want {
		if !slices.Contains(strings.Fields(string(on)), c) {
			off = append(off, "+"+c)
		}
	}
	if len(off) == 0 {
		return nil
	}
	have, err := os.ReadFile(filepath.Join(path, "cgroup.controllers"))
	if err != nil {
		return err
	}
	off = slices.DeleteFunc(off, func(c string) bool {
		return !slices.Contains(controllers, c[1:]) && !slices.Contains(strings.Fields(string(have)), c[1:])
	})
	if len(off) == 0 {
		return nil
	}
	err = write(path, "cgroup.subtree_control", strings.Join(off, " "))
	if err == nil {
		tell.Write(story.Host, "the cgroups below have controllers", filepath.Join(path, "cgroup.subtree_control"), strings.Join(off, " "))
	}
	return err
}

func (cg v2) set(r *specs.LinuxResources, tell story.Story) error {
	for _, s := range cg.settings(r) {
		err := write(cg.path, s.file, s.value)
		if errors.Is(err, ErrUnsupported) && s.file == "memory.swap.max" {
			continue // a kernel without swap
		}
		if err != nil {
			return fmt.Errorf("limit %s: %w", s.limit, err)
		}
		tell.Write(story.Host, "limit "+s.limit, filepath.Join(cg.path, s.file), s.value)
	}
	return nil
}

// settings is what resources are in the words of v2.
func (cg v2) settings(r *specs.LinuxResources) (s []setting) {
	add := func(limit, file string, value any) { s = append(s, setting{limit, "", file, value}) }
	if m := r.Memory; m != nil {
		if m.Limit != nil {
			add("memory", "memory.max", orMax(*m.Limit))
		}
		if m.Swap != nil {
			// The specification counts memory and swap together, v2 swap alone.
			swap := *m.Swap
			if swap >= 0 && m.Limit != nil && *m.Limit >= 0 {
				swap -= *m.Limit
			}
			add("memory and swap", "memory.swap.max", orMax(swap))
		}
		if m.Reservation != nil {
			add("memory reservation", "memory.low", orMax(*m.Reservation))
		}
	}
	if c := r.CPU; c != nil {
		if c.Shares != nil && *c.Shares != 0 {
			add("CPU shares", "cpu.weight", weight(*c.Shares))
		}
		if c.Quota != nil || c.Period != nil {
			quota, period := int64(-1), uint64(cpuPeriod)
			if c.Quota != nil {
				quota = *c.Quota
			}
			if c.Period != nil {
				period = *c.Period
			}
			add("CPU quota", "cpu.max", fmt.Sprintf("%s %d", orMax(quota), period))
		}
		if c.Cpus != "" {
			add("cpuset of processors", "cpuset.cpus", c.Cpus)
		}
		if c.Mems != "" {
			add("cpuset of memory nodes", "cpuset.mems", c.Mems)
		}
	}
	if p := r.Pids; p != nil && p.Limit != nil {
		add("pids", "pids.max", orMax(*p.Limit))
	}
	if b := r.BlockIO; b != nil {
		if b.Weight != nil {
			// Two programs of the kernel can deal out a disk, and each has its file: of 1 to 1000, or of 1 to 10000.
			if _, err := os.Stat(filepath.Join(cg.path, "io.bfq.weight")); err == nil {
				add("block IO weight", "io.bfq.weight", *b.Weight)
			} else {
				add("block IO weight", "io.weight", 1+(int(*b.Weight)-10)*9999/990)
			}
		}
		throttle := func(limit, key string, devices []specs.LinuxThrottleDevice) {
			for _, d := range devices {
				add(limit, "io.max", fmt.Sprintf("%d:%d %s=%d", d.Major, d.Minor, key, d.Rate))
			}
		}
		throttle("bytes read a second", "rbps", b.ThrottleReadBpsDevice)
		throttle("bytes written a second", "wbps", b.ThrottleWriteBpsDevice)
		throttle("reads a second", "riops", b.ThrottleReadIOPSDevice)
		throttle("writes a second", "wiops", b.ThrottleWriteIOPSDevice)
	}
	return s
}

// weight turns v1's shares, of 2 to 262144 and by default 1024, into v2's weight, of 1 to 10000 and by default 100. It is
// the curve through these three points that runc and crun have agreed on.
func weight(shares uint64) uint64 {
	l := math.Log2(float64(min(max(shares, 2), 262144)))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}

// orMax is the kernel's word for no limit, which the specification writes as -1.
func orMax(limit int64) string {
	if limit < 0 {
		return "max"
	}
	return strconv.FormatInt(limit, 10)
}

func (cg v2) Update(r *specs.LinuxResources) error {
	parent := filepath.Dir(cg.path)
	handDown(filepath.Dir(parent), limited(r), nil)
	if err := enable(parent, v2Controllers(r), nil); err != nil {
		return err
	}
	return cg.set(r, nil)
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

func (cg v2) Add(pid int) error { return write(cg.path, "cgroup.procs", pid) }

func (cg v2) Pids() ([]int, error) { return pidsBelow(cg.path) }

func (cg v2) Freeze() error {
	err := write(cg.path, "cgroup.freeze", 1)
	if err == nil {
		err = await("freeze", cg.Frozen)
	}
	if err != nil {
		return errors.Join(err, cg.Thaw())
	}
	return nil
}

func (cg v2) Thaw() error {
	if err := write(cg.path, "cgroup.freeze", 0); err != nil {
		return err
	}
	return await("thaw", func() bool { return !cg.Frozen() }) // it is thawed when the first of them has noticed
}

func (cg v2) Frozen() bool { return field(cg.path, "cgroup.events", "frozen") == 1 }

func (cg v2) Stats() (Stats, error) {
	s := Stats{
		MemoryPeak:  number(cg.path, "memory.peak"), // since Linux 5.19
		MemoryLimit: number(cg.path, "memory.max"),
		MemoryMax:   field(cg.path, "memory.events.local", "oom"),
		OOMKills:    cg.OOMKills(),
		CPU:         time.Duration(field(cg.path, "cpu.stat", "usage_usec")) * time.Microsecond,
		Throttled:   field(cg.path, "cpu.stat", "nr_throttled"),
		Pids:        number(cg.path, "pids.current"),
		PidsMax:     field(cg.path, "pids.events", "max"),
	}
	usage := number(cg.path, "memory.current")
	s.Memory = usage - min(usage, field(cg.path, "memory.stat", "inactive_file"))
	// Lines are "8:0 rbytes=4096 wbytes=0 rios=1 …".
	raw, _ := os.ReadFile(filepath.Join(cg.path, "io.stat"))
	for _, word := range strings.Fields(string(raw)) {
		key, value, _ := strings.Cut(word, "=")
		n, _ := strconv.ParseUint(value, 10, 64)
		switch key {
		case "rbytes":
			s.Read += n
		case "wbytes":
			s.Written += n
		}
	}
	return s, nil
}

func (cg v2) OOMKills() uint64 { return field(cg.path, "memory.events", "oom_kill") }

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
