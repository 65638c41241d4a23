//go:build linux

package cage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step03-layers/usernamespace"
	"gocker/step04-overlay/overlay"
	"gocker/step05-namespaces/birth"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/rootfs"
	"gocker/step06-cgroups/cgroups"
	"gocker/step06-cgroups/devices"
)

// cgroupFolder is where a cage has its cgroup, with v1 one for each controller, as if it were all that the machine has.
const cgroupFolder = "/sys/fs/cgroup"

// inner is the name of the cgroup in which programs begin.
const inner = "learner"

// makeCgroups makes the cgroup that holds the limits, and the one below it.
func (c *Cage) makeCgroups() (err error) {
	name := strings.Join([]string{"gocker-learn", filepath.Base(os.TempDir()), filepath.Base(c.folder)}, "-")
	f := &overlay.FS{Dir: c.folder}
	c.cgroup, err = cgroups.New(f, name)
	if errors.Is(err, os.ErrPermission) && usernamespace.Inside() {
		c.noCgroup, c.cgroup, c.inner = err, cgroups.Nowhere, cgroups.Nowhere
		return cgroups.Record(f, cgroups.Nowhere)
	}
	if err != nil {
		return err
	}
	most, processes := int64(memory), int64(pids)
	settings := cgroups.Settings(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &most, Swap: &most}, Pids: &specs.LinuxPids{Limit: &processes}})
	if err := cgroups.Set(c.cgroup, settings); err != nil {
		return err
	}
	if !usernamespace.Inside() { // whose root makes no devices
		if err := devices.Guard(c.cgroup, append([]specs.LinuxDeviceCgroup{devices.DenyAll}, devices.Defaults()...)); err != nil {
			return err
		}
	}
	if c.inner, err = cgroups.New(nil, filepath.Join(name, inner)); err != nil {
		return err
	}
	if controller := c.inner.Word("", "devices"); controller != "" {
		return c.inner.Enable(controller) // with v1 it has what the one above has
	}
	return nil
}

// A tree is a part of a cgroup file system of the machine, which is mounted nowhere yet.
type tree struct {
	fd int
	at string // below cgroupFolder
}

// openTrees opens the cgroup as something to mount: see open_tree(2).
func (c *Cage) openTrees() (trees []tree, err error) {
	for _, controller := range c.controllers() {
		folder := filepath.Dir(c.cgroup.Path(controller + ".x"))
		fd, err := unix.OpenTree(unix.AT_FDCWD, folder, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return trees, fmt.Errorf("open the cgroup %q: %w", folder, err)
		}
		trees = append(trees, tree{fd, c.cgroup.Word("", controller)})
	}
	return trees, nil
}

// NoCgroup is why the cage has no cgroup; nil if it has one.
func (c *Cage) NoCgroup() error { return c.noCgroup }

// limitProcesses gives a program a limit of its own, where there is no cgroup. The processes of the user's containers are counted, too: all
// in the user namespace are.
func (c *Cage) limitProcesses() namespaces.Part {
	return namespaces.Part{Last: func(list *birth.List) error {
		if c.noCgroup != nil {
			most := &unix.Rlimit{Cur: 4 * pids, Max: 4 * pids}
			list.Add("set the limit of processes", unix.SYS_PRLIMIT64, 0, unix.RLIMIT_NPROC, unsafe.Pointer(most), 0)
		}
		return nil
	}}
}

// controllers are those of the trees of the cage; with v2 there is one tree.
func (c *Cage) controllers() []string {
	if c.noCgroup != nil {
		return nil
	}
	if c.cgroup.Word("v2", "v1") == "v2" {
		return []string{"memory"}
	}
	return slices.DeleteFunc([]string{"memory", "cpu", "cpuacct", "pids"}, func(controller string) bool {
		_, err := os.Stat(filepath.Dir(c.cgroup.Path(controller + ".x")))
		return err != nil
	})
}

// mountTrees mounts them where a program looks for cgroups.
func mountTrees(root *rootfs.Root, trees []tree) error {
	if len(trees) > 1 {
		if err := root.Mount(specs.Mount{Destination: cgroupFolder, Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=755"}}); err != nil {
			return err
		}
	}
	for _, t := range trees {
		at := filepath.Join(cgroupFolder, t.at)
		if err := os.MkdirAll(at, 0o755); err != nil {
			return err
		}
		if err := unix.MoveMount(t.fd, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("mount a cgroup on %q: %w", at, err)
		}
	}
	return nil
}

// CgroupOf is the folder of the cgroup that a process is in, for one controller; "" if it is none that a program made.
func (c *Cage) CgroupOf(pid int, controller string) (found string, err error) {
	top := filepath.Dir(c.cgroup.Path(controller + ".x"))
	err = filepath.WalkDir(top, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.IsDir() || path == top {
			return err
		}
		if path == filepath.Join(top, inner) {
			return filepath.SkipDir
		}
		procs, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		if slices.Contains(strings.Fields(string(procs)), strconv.Itoa(pid)) {
			found = path
		}
		return err
	})
	return found, err
}

// Word chooses between what is said of v2, and of v1.
func (c *Cage) Word(v2, v1 string) string { return c.cgroup.Word(v2, v1) }

// Container are all processes of the pid namespaces that programs made, as the host counts.
func (c *Cage) Container() (pids []int, err error) {
	all, err := c.pids()
	for _, pid := range all {
		if len(numbersOf(pid)) > len(numbersOf(c.first.Pid)) {
			pids = append(pids, pid)
		}
	}
	return pids, err
}
