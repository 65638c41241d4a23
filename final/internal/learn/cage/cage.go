//go:build linux

// Package cage runs a program as root so that a wrong one cannot harm the machine.
//
// A cage is a container that step 5 makes, with a cgroup of step 6. Its root shows this machine's files, as an overlay: a program
// finds itself, its interpreter and its libraries, and what it changes lies in memory and is gone at the end. Other file
// systems of the machine are there, and cannot be written. The network is its own.
//
//	memory, of at most Disk bytes
//	  learn       the folder Dir of the cage: what the program is given, and what it makes
//	  upper       what it changed elsewhere
//	  aside       what the program does not see
//
// An ordinary user's cage is in the user's user namespace, and root in there is the user. There is an overlay of each folder in /, as the
// kernel makes none of / there. See showFolders. The cage has a cgroup if root has delegated one to the user. If not, the
// program may have so many processes, and so much time, and the disk is small; but nothing limits its memory.
//
// As systemd does it, / is a shared mount: what a program mounts without a private copy stays in the cage, and is found.
//
// Outside it has a folder, below the one for temporary files, which is locked as long as the cage is there. If this process is
// killed, all in the cage ends with it, and the next cage removes the folder and the cgroup.
//
// It is not for a program that means harm: that one has root's capabilities.
package cage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/dirs"
	"gocker/step04-overlay/check"
	"gocker/step04-overlay/overlay"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/rootfs"
	"gocker/step05-namespaces/terminal"
	"gocker/step06-cgroups/cgroups"
)

// Dir is the folder of a cage that has files of a trial.
const Dir = "/learn"

// What a cage may use of the machine at most. Bytes, and processes.
const (
	Disk   = 256 << 20
	memory = 1 << 30
	pids   = 256
)

// A Cage is a place where programs run. Close it.
type Cage struct {
	memory   *os.File            // the file system of the cage
	folder   string              // where it is mounted, which nobody else sees; others see a record of the cgroup
	lock     *os.File            // of the folder
	cgroup   cgroups.Cgroup      // what it may use
	inner    cgroups.Cgroup      // below it, where programs begin: with v2 only a cgroup without processes can have others
	noCgroup error               // why there is none
	first    *namespaces.Process // PID 1: it waits, and all others end with it
	pidNS    os.FileInfo         // the pid namespace of first
	mounts   []string            // those at the beginning
}

// New makes a cage.
func New() (c *Cage, err error) {
	c = &Cage{}
	defer func() {
		if err != nil {
			c.Close()
			c, err = nil, fmt.Errorf("make a cage: %w", err)
		}
	}()
	if err := removeDead(); err != nil {
		return c, err
	}
	if c.folder, c.lock, err = newFolder(); err != nil {
		return c, err
	}
	if err := c.makeCgroups(); err != nil {
		return c, err
	}
	spec := namespaces.Spec(filepath.Join(c.folder, "root"), "learn", []string{"true"})
	spec.Linux.Namespaces = slices.DeleteFunc(spec.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == specs.CgroupNamespace })
	spec.Mounts = append(spec.Mounts, specs.Mount{Destination: cgroupFolder, Type: "learn"})
	var trees []tree
	defer func() {
		for _, t := range trees {
			unix.Close(t.fd)
		}
	}()
	part := namespaces.Part{
		Unshared: func() (err error) {
			if trees, err = c.openTrees(); err != nil {
				return err
			}
			return c.build()
		},
		Mount: func(root *rootfs.Root, m specs.Mount) (bool, error) {
			if m.Destination != cgroupFolder {
				return false, nil
			}
			return true, mountTrees(root, trees)
		},
		Inside: func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "") },
	}
	if c.first, err = namespaces.Create(spec, terminal.New(spec.Process, terminal.Stdio{}), cgroups.Into(c.inner), part); err != nil {
		return c, err
	}
	if c.pidNS, err = os.Stat(fmt.Sprintf("/proc/%d/ns/pid", c.first.Pid)); err != nil {
		return c, err
	}
	c.mounts, err = c.mounted()
	return c, err
}

// Path is where this process finds a file of the cage: one in Dir, or in aside, which the program does not see. It is for
// files that no program in the cage changes meanwhile.
func (c *Cage) Path(parts ...string) string {
	return filepath.Join(append([]string{fmt.Sprintf("/proc/self/fd/%d", c.memory.Fd())}, parts...)...)
}

// mounted lists what is mounted in the cage: where, and which kind.
func (c *Cage) mounted() (points []string, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", c.first.Pid))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	mounts, err := mountinfo.GetMountsFromReader(f, nil)
	for _, m := range mounts {
		points = append(points, m.FSType+" on "+m.Mountpoint)
	}
	return points, err
}

// Kill ends all that runs in the cage. Close it nevertheless.
func (c *Cage) Kill() { c.first.Kill() }

// Close ends all that runs in the cage, and removes it.
func (c *Cage) Close() error {
	if c.first != nil {
		c.first.Abort()
	}
	if c.memory != nil {
		c.memory.Close()
	}
	if c.lock == nil {
		return nil
	}
	defer c.lock.Close()
	return removeFolder(c.folder)
}

const prefix = "gocker-cage"

// newFolder makes a folder for temporary files, and locks it.
func newFolder() (folder string, lock *os.File, err error) {
	for {
		if folder, err = os.MkdirTemp("", prefix); err != nil {
			return "", nil, err
		}
		// Another process may have taken it for a dead one before it was locked.
		if lock, err = dirs.TryLock(folder); !errors.Is(err, dirs.ErrLocked) && !errors.Is(err, os.ErrNotExist) {
			return folder, lock, err
		}
	}
}

// removeFolder removes the folder of a cage in which nothing runs, and first the cgroup that is recorded there.
func removeFolder(folder string) error {
	if err := cgroups.RemoveRecorded(&overlay.FS{Dir: folder}); err != nil {
		return err
	}
	return os.Remove(folder)
}

// removeDead removes what is left of cages whose process was killed.
func removeDead() error {
	folders, err := dirs.Glob(os.TempDir(), prefix+"[0-9]*")
	for _, folder := range folders {
		var info unix.Stat_t
		if unix.Lstat(folder, &info) != nil || info.Mode&unix.S_IFMT != unix.S_IFDIR || info.Uid != uint32(os.Geteuid()) {
			continue // somebody else may have written the record in it
		}
		lock, lockErr := dirs.TryLock(folder)
		if lockErr != nil {
			continue // it is alive, or gone meanwhile
		}
		err = errors.Join(err, removeFolder(folder))
		lock.Close()
	}
	return err
}

// InNetwork calls do on a thread that has the network of the cage.
func (c *Cage) InNetwork(do func() error) error {
	return check.OnThread(func() error {
		pidfd, err := unix.PidfdOpen(c.first.Pid, 0)
		if err != nil {
			return err
		}
		defer unix.Close(pidfd)
		if err := unix.Setns(pidfd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("join the network of the cage: %w", err)
		}
		return do()
	})
}
