//go:build linux

// Package cgroups gives processes limits.
//
// A control group is a folder that the kernel makes files in: some are limits, some are counters. There are two versions,
// and a machine has one of them:
//
//	v2    one tree for all:            /sys/fs/cgroup/…/gocker-{id}/{memory.max,cpu.max,pids.max}
//	v1    a tree for each controller:  /sys/fs/cgroup/memory/…/gocker-{id}/memory.limit_in_bytes, …
//	      (hybrid is v1 with an empty v2 tree beside it)
//
//	cg, err := cgroups.New(f, "gocker-"+f.ID)                      // makes the folders
//	err = cgroups.Set(cg, cgroups.Settings(resources))             // writes the limits
//	p, err := namespaces.Create(spec, stdio, cgroups.Into(cg), …)  // the process is in there from its birth on
//	stats := counters.Read(cg)
//	err = cgroups.Remove(cg)                                       // kills what is left in it
//
// It is made below the cgroup that this process is in, or as near to it as the kernel allows: limits that somebody
// gave us hold for our containers too.
//
// A limit that the machine cannot hold is an error, and no container starts without it. A cgroup hides nothing:
// a process still sees all the machine's memory and processors, and may count on them.
//
// Read v2.go first, v1.go beside it. settings.go has the limits in the words of both.
//
// See cgroups(7), https://docs.kernel.org/admin-guide/cgroup-v2.html, https://docs.kernel.org/admin-guide/cgroup-v1/,
// and https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#control-groups.
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

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step03-layers/usernamespace"
	"gocker/step04-overlay/check"
	"gocker/step04-overlay/overlay"
	"gocker/step06-cgroups/trees"
)

// ErrUnsupported says that this machine cannot hold a limit.
var ErrUnsupported = errors.New("this machine has no cgroup controller for it")

// A Cgroup is the control group of one container.
type Cgroup interface {
	// Make makes its folders, with the files of the controllers of this package. If it fails, nothing of them is left.
	Make() error
	// Enable adds the files of more controllers. Files that are there already are no error.
	Enable(controllers ...string) error
	// Folders are the folders that it may have, in the order in which they can be removed: one with v2, one for each
	// controller with v1.
	Folders() []string
	// Path is where a control file is. "memory.max" is a file of the controller memory.
	Path(file string) string
	// Word chooses between two words for one thing, that of v2 and that of v1.
	Word(v2, v1 string) string
	// String has the lines of its record: as those of /proc/{pid}/cgroup, without the first number.
	String() string
}

// New makes the cgroup of a container. A path that begins with "/" is below the root of the tree, any other below our
// own cgroup or near it; folders above that are missing are made, and stay. Before anything is made, the folder of f has
// a record of where: so a command that finds it after a crash can remove the cgroup. Without f there is none.
func New(f *overlay.FS, path string) (Cgroup, error) {
	cg, err := find(path)
	if err == nil && f != nil {
		err = Record(f, cg)
	}
	if err == nil {
		err = cg.Make()
	}
	if errors.Is(err, os.ErrPermission) && usernamespace.Inside() {
		return nil, advice.Add(err, "%s", undelegated)
	}
	if err != nil {
		return nil, check.Explain(err, []check.Result{check.Privilege(), trees.Check(Controllers...)})
	}
	return cg, nil
}

const undelegated = "a user makes cgroups only below one that root has delegated to this user; with systemd and cgroup v2: systemd-run --user --scope -p Delegate=yes COMMAND; by hand: see docs/user-namespaces.md"

// find says where a cgroup is to be. If one controller is in a tree of v1, all that we want are.
func find(path string) (Cgroup, error) {
	t, err := trees.Find()
	switch {
	case err != nil:
		return nil, err
	case len(t.V1) > 0:
		return newV1(t.V1, path), nil
	case t.V2.Root != "":
		return newV2(t.V2, path)
	}
	return nil, ErrUnsupported
}

// mkdir makes a folder, which must not be there, and those above it, which may.
func mkdir(folder string) error {
	err := os.Mkdir(folder, 0o755)
	if errors.Is(err, os.ErrNotExist) {
		err = errors.Join(os.MkdirAll(filepath.Dir(folder), 0o755), os.Mkdir(folder, 0o755))
	}
	if err != nil {
		return fmt.Errorf("make cgroup: %w", err)
	}
	return nil
}

// Write writes a control file of a cgroup. The kernel says EINVAL for any value that it does not like.
func Write(cg Cgroup, file, value string) error { return write(cg.Path(file), value) }

func write(path, value string) error {
	// Not os.WriteFile: without O_CREAT a file that the kernel does not have is ENOENT, not EPERM.
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(value)
		err = errors.Join(err, f.Close())
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrNotExist):
		if path == Nowhere.Path(filepath.Base(path)) {
			return advice.Add(errNowhere, "%s", undelegated)
		}
		return advice.Add(fmt.Errorf("write %s to %q: %w", value, path, ErrUnsupported), "is the controller switched on? look at /proc/cgroups and at cgroup.controllers")
	case errors.Is(err, os.ErrPermission), errors.Is(err, unix.EROFS):
		return advice.Add(fmt.Errorf("write %s: %w", value, err), "limits need root, and a cgroup file system that is mounted writable")
	}
	return fmt.Errorf("write %s: %w", value, err)
}

// Paths are the folders that a cgroup has now.
func Paths(cg Cgroup) []string {
	paths := slices.DeleteFunc(slices.Sorted(slices.Values(cg.Folders())), func(path string) bool {
		_, err := os.Stat(path)
		return errors.Is(err, os.ErrNotExist)
	})
	return slices.Compact(paths)
}

// Pids are the processes of one folder and of those inside. One of another pid namespace, which the kernel calls 0, is
// none of them.
func Pids(folder string) (pids []int, err error) {
	err = filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		raw, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		for _, word := range strings.Fields(string(raw)) {
			if pid, err := strconv.Atoi(word); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		return err
	})
	return pids, err
}

// Kill ends all processes of a cgroup, also those that they make meanwhile: it tries for some seconds.
func Kill(cg Cgroup) {
	for wait := time.Millisecond; wait < 2*time.Second; wait *= 2 {
		left := false
		for _, path := range Paths(cg) {
			left = kill(path) || left
		}
		if !left {
			return
		}
		time.Sleep(wait)
	}
}

// kill sends SIGKILL to all processes of a folder: at once where the kernel has cgroup.kill (v2, since Linux 5.14). It
// tells whether there were any. With v1 one that is frozen does not die.
func kill(path string) (any bool) {
	write(filepath.Join(path, "freezer.state"), "THAWED") // only the freezer's folder has this file
	pids, _ := Pids(path)                                 // the removal of the folder says what is wrong
	if len(pids) > 0 && write(filepath.Join(path, "cgroup.kill"), "1") != nil {
		for _, pid := range pids {
			unix.Kill(pid, unix.SIGKILL)
		}
	}
	return len(pids) > 0
}

// Remove kills what is left in a cgroup and removes its folders.
func Remove(cg Cgroup) error { return remove(cg.Folders()...) }

func remove(folders ...string) (err error) {
	for _, folder := range folders {
		if e := removeFolder(folder); e != nil {
			err = errors.Join(err, fmt.Errorf("remove cgroup %q: %w", folder, e))
		}
	}
	return err
}

// removeFolder is rmdir(2), for the cgroups inside first: a process that may write to a cgroup may make some there. The files are
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
