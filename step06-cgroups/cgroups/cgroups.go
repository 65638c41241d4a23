//go:build linux

// Package cgroups gives processes limits.
//
// A control group is a folder that the kernel makes files in: some say what its processes use, some are limits. There
// are two kinds, and this package hides which one the machine has:
//
//	v2    one tree for all:          /sys/fs/cgroup/…/gocker-{id}/{memory.max,cpu.max,pids.max}
//	v1    a tree for each controller: /sys/fs/cgroup/memory/…/gocker-{id}/memory.limit_in_bytes, …
//	      (hybrid is v1 with an empty v2 tree beside it)
//
//	cg, err := cgroups.New(path, resources, nil) // makes it, writes the limits; for a container: NewFor
//	err = cg.Add(pid)                            // before the process does anything: its children are born there
//	stats, err := cg.Stats()
//	err = cgroups.Remove(cg, nil)                // kills what is left in it
//
// It is made below the cgroup that this process is in, or as near to it as the kernel allows: limits that somebody
// gave us hold for our containers too.
//
// A limit that the machine cannot hold is an error, and no container starts without it. What cgroups do not do: hide
// anything. A process still sees all the machine's memory and processors, and may count on them.
//
// See cgroups(7), https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/admin-guide/cgroup-v1/,
// and https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#control-groups.
package cgroups

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step04-overlay/check"
	"gocker/step04-overlay/overlay"
	"gocker/step04-overlay/story"
)

// ErrUnsupported says that this machine cannot hold a limit.
var ErrUnsupported = errors.New("this machine has no cgroup controller for it")

// A Cgroup is the control group of one container.
type Cgroup interface {
	// Version is "v1" or "v2".
	Version() string
	// Open returns its folder for CLONE_INTO_CGROUP, or nil with v1, where no process can be born in another cgroup; and
	// the files that move a process in that writes "0" to each. The caller closes them.
	Open() (folder *os.File, doors []*os.File, err error)
	// Add moves a process into the cgroup.
	Add(pid int) error
	// Pids are its processes, and those of cgroups inside.
	Pids() ([]int, error)
	// Update writes limits anew. What resources does not name stays as it is, and the rules for devices always do.
	Update(resources *specs.LinuxResources) error
	// Freeze stops all its processes, and those born until Thaw, without their notice: when it returns, none runs.
	Freeze() error
	Thaw() error
	Frozen() bool
	// Stats reads what its processes use, and have used so far.
	Stats() (Stats, error)
	// OOMKills is that number of Stats alone, which takes less time.
	OOMKills() uint64
	// Files are the kernel's files that tell about "memory", "cpu", "pids" or "devices".
	Files(controller string) []string
	// Paths are its folders.
	Paths() []string
}

// Stats is what the kernel counted. A file that the kernel lacks leaves its number 0.
type Stats struct {
	Memory        uint64        // bytes in use, without those of files that were not read again
	MemoryPeak    uint64        // bytes, with all files
	MemoryLimit   uint64        // bytes; where there is none, a number larger than any memory, or 0
	MemoryMax     uint64        // times that memory was at its own limit; v1 also counts those in which enough was found to give back
	OOMKills      uint64        // processes killed because memory was at its limit, or at that of a cgroup above
	CPU           time.Duration // of all processors together
	Throttled     uint64        // periods in which the processes had to wait, their share being used up
	Pids          uint64        // processes and threads
	PidsMax       uint64        // forks that failed because of the limit; with v1, and v2 before Linux 6.11, also of one above
	Read, Written uint64        // bytes, from and to block devices
}

// New makes a cgroup and writes the limits. A path that begins with "/" is below the root of the tree, any other below
// our own cgroup or near it; folders above that are missing are made, and stay. What resources does not name is not
// limited. If New fails, nothing else is left. tell hears what is done.
func New(path string, resources *specs.LinuxResources, tell story.Story) (Cgroup, error) {
	return newChecked(path, resources, func(Cgroup) error { return nil }, tell)
}

// NewFor is New for a container. Before anything is made, its folder has a record of where that will be: so whoever
// finds the folder after a crash can remove it. See RemoveRecorded.
func NewFor(f *overlay.FS, path string, resources *specs.LinuxResources, tell story.Story) (Cgroup, error) {
	return newChecked(path, resources, func(cg Cgroup) error { return Record(f, cg) }, tell)
}

func newChecked(path string, resources *specs.LinuxResources, record func(Cgroup) error, tell story.Story) (Cgroup, error) {
	cg, err := newCgroup(path, resources, record, tell)
	if err != nil {
		return nil, check.Explain(err, []check.Result{check.Privilege(), checkControllers()})
	}
	return cg, nil
}

func newCgroup(path string, resources *specs.LinuxResources, record func(Cgroup) error, tell story.Story) (Cgroup, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return nil, fmt.Errorf("read mountinfo: %w", err)
	}
	var own []byte // with an absolute path we begin at the root
	if !filepath.IsAbs(path) {
		if own, err = os.ReadFile("/proc/self/cgroup"); err != nil {
			return nil, err
		}
	}
	if trees := v1Trees(mounts, own); len(trees) > 0 {
		return newV1(trees, path, resources, record, tell)
	}
	for _, m := range mounts {
		if m.FSType == "cgroup2" {
			return newV2(m.Mountpoint, inside(m, ownPath(own, "")), path, resources, record, tell)
		}
	}
	return nil, ErrUnsupported
}

// ownPath finds our cgroup in the lines of /proc/self/cgroup, "4:memory:/user" or "0::/user", which is v2's: see
// cgroups(7).
func ownPath(proc []byte, controller string) string {
	for line := range strings.Lines(string(proc)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for _, c := range strings.Split(parts[1], ",") {
			if c == controller {
				return parts[2]
			}
		}
	}
	return "/"
}

// inside turns a path in the whole tree into one below the mount point, which may show only a part of the tree.
func inside(m *mountinfo.Info, path string) string {
	if rel, err := filepath.Rel(m.Root, path); err == nil && filepath.IsLocal(rel) {
		return rel
	}
	return "."
}

// Remove kills what is left in a cgroup and removes its folders.
func Remove(cg Cgroup, tell story.Story) error {
	if tell != nil {
		tell.Run(story.After, "a cgroup without processes can be removed", append([]string{"rmdir"}, cg.Paths()...)...)
	}
	if cg, ok := cg.(v1); ok {
		return remove(cg.all()) // another gocker may have made one that was not there when we looked
	}
	return remove(cg.Paths())
}

func remove(paths []string) (err error) {
	for _, path := range paths {
		if e := removeFolder(path); e != nil {
			err = errors.Join(err, fmt.Errorf("remove cgroup %q: %w", path, e))
		}
	}
	return err
}

// removeFolder is rmdir(2), for the cgroups inside first: who may write to a cgroup may make some there. The files are
// not there to be removed. It is busy as long as a process in it is not quite dead, so it is tried for some seconds.
func removeFolder(path string) error {
	for wait := time.Millisecond; ; wait *= 2 {
		err := unix.Rmdir(path)
		if err == nil || errors.Is(err, unix.ENOENT) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || wait > 2*time.Second {
			return err
		}
		kill(path)
		inside, err := os.ReadDir(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for _, entry := range inside {
			if !entry.IsDir() {
				continue
			}
			if err := removeFolder(filepath.Join(path, entry.Name())); err != nil {
				return err
			}
		}
		time.Sleep(wait)
	}
}

// kill sends SIGKILL to all processes of a cgroup: at once where the kernel (5.14 and later, v2) has cgroup.kill. With v1
// one that is frozen does not die.
func kill(path string) {
	write(path, "freezer.state", "THAWED") // only the freezer's folder has this file
	if os.WriteFile(filepath.Join(path, "cgroup.kill"), []byte("1"), 0) == nil {
		return
	}
	pids, _ := pidsOf(path) // removeFolder says what is wrong
	for _, pid := range pids {
		unix.Kill(pid, unix.SIGKILL)
	}
}

// pidsOf reads the processes of one folder. 0 would be one of another pid namespace.
func pidsOf(path string) (pids []int, err error) {
	procs, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
	for _, line := range strings.Fields(string(procs)) {
		if pid, err := strconv.Atoi(line); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	return pids, err
}

// pidsBelow reads the processes of a folder and of those inside.
func pidsBelow(path string) (pids []int, err error) {
	err = filepath.WalkDir(path, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		more, err := pidsOf(path)
		pids = append(pids, more...)
		return err
	})
	return pids, err
}

// A setting is one value for one file of the kernel.
type setting struct {
	limit            string // that it is, for errors
	controller, file string
	value            any
}

// patience is how long processes may take to stop: one that waits for a disk stops when it has its answer.
const patience = 10 * time.Second

// await waits until the kernel has done something.
func await(what string, done func() bool) error {
	for deadline := time.Now().Add(patience); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: not done after %s", what, patience)
		}
	}
	return nil
}

// Kill ends all processes of a cgroup, also those that they make meanwhile.
func Kill(cg Cgroup) {
	for wait := time.Millisecond; wait < 2*time.Second; wait *= 2 {
		left := false
		for _, path := range cg.Paths() {
			kill(path)
			procs, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
			left = left || err == nil && len(procs) > 0
		}
		if !left {
			return
		}
		time.Sleep(wait)
	}
}

// write writes a control file. The kernel says EINVAL for any value that it does not like.
func write(path, file string, value any) error {
	file = filepath.Join(path, file)
	// Not os.WriteFile: without O_CREAT a file that the kernel does not have is ENOENT, not EPERM.
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err == nil {
		_, err = fmt.Fprint(f, value)
		err = errors.Join(err, f.Close())
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrNotExist):
		return advice.Add(fmt.Errorf("write %v to %q: %w", value, file, ErrUnsupported), "is the controller switched on? look at /proc/cgroups and at cgroup.controllers")
	case errors.Is(err, os.ErrPermission), errors.Is(err, unix.EROFS):
		return advice.Add(fmt.Errorf("write %v: %w", value, err), "limits need root, and a cgroup file system that is mounted writable")
	}
	return fmt.Errorf("write %v: %w", value, err)
}

// number reads a file that holds one number.
func number(path, file string) uint64 {
	raw, err := os.ReadFile(filepath.Join(path, file))
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(string(bytes.TrimSpace(raw)), 10, 64)
	return n
}

// field reads a number from a file of lines "key number".
func field(path, file, key string) uint64 {
	raw, err := os.ReadFile(filepath.Join(path, file))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok && k == key {
			n, _ := strconv.ParseUint(v, 10, 64)
			return n
		}
	}
	return 0
}

// record is the file in a container's folder that says where its cgroups are, for other commands, and for the case that
// gocker dies. Its lines are as those of /proc/{pid}/cgroup, without the first number: "memory:/sys/fs/cgroup/memory/…",
// or ":/sys/fs/cgroup/…" with v2.
const record = "cgroups"

// Record writes down where the cgroup of a container is.
func Record(f *overlay.FS, cg Cgroup) error {
	var lines strings.Builder
	switch cg := cg.(type) {
	case v1:
		for controller, path := range cg {
			fmt.Fprintf(&lines, "%s:%s\n", controller, path)
		}
	case v2:
		fmt.Fprintf(&lines, ":%s\n", cg.path)
	}
	return os.WriteFile(filepath.Join(f.Dir, record), []byte(lines.String()), 0o600)
}

// OpenRecorded is the cgroup that Record wrote down in a container's folder.
func OpenRecorded(folder string) (Cgroup, error) {
	raw, err := os.ReadFile(filepath.Join(folder, record))
	if err != nil {
		return nil, fmt.Errorf("read where the cgroups are: %w", err)
	}
	cg := v1{}
	for line := range strings.Lines(string(raw)) {
		controller, path, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		if controller == "" {
			return v2{path}, nil
		}
		cg[controller] = path
	}
	return cg, nil
}

func openDoors(paths []string, file string) (doors []*os.File, err error) {
	for _, path := range paths {
		door, err := os.OpenFile(filepath.Join(path, file), os.O_WRONLY, 0)
		if err != nil {
			for _, d := range doors {
				d.Close()
			}
			return nil, err
		}
		doors = append(doors, door)
	}
	return doors, nil
}

// RemoveRecorded removes the cgroups that Record wrote down, if there are any.
func RemoveRecorded(f *overlay.FS) error {
	cg, err := OpenRecorded(f.Dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return RemoveFor(f, cg, nil)
}

// RemoveFor is Remove for what NewFor has made. The record goes last: as long as it is there, something may be left.
func RemoveFor(f *overlay.FS, cg Cgroup, tell story.Story) error {
	if err := Remove(cg, tell); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(f.Dir, record)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// RemoveDead removes what dead containers have left: processes, cgroups, mounts and folders. The folder of a cgroup that
// could not be removed stays: nothing else says where that is.
func RemoveDead(d dirs.Dirs) error {
	return overlay.EachDead(d, func(f *overlay.FS) error {
		if err := RemoveRecorded(f); err != nil {
			return errors.Join(err, f.Close())
		}
		return f.Remove()
	}, record)
}
