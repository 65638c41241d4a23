//go:build linux

package learn

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"gocker/final/internal/learn/cage"
	"gocker/step01-pull/shared/advice"
	"gocker/step03-layers/usernamespace"
)

// A limit is a file of a cgroup and its value, in the words of v2 and of v1.
type limit struct {
	controller string
	v2File, v2 string
	v1File, v1 string
}

var (
	memoryLimit = limit{"memory", "memory.max", "33554432", "memory.limit_in_bytes", "33554432"}
	swapLimit   = limit{"memory", "memory.swap.max", "0", "memory.memsw.limit_in_bytes", "33554432"}
	cpuLimit    = limit{"cpu", "cpu.max", "50000 100000", "cpu.cfs_quota_us", "50000"}
	pidsLimit   = limit{"pids", "pids.max", "16", "pids.max", "16"}
	noPidsLimit = limit{"pids", "pids.max", "max", "pids.max", "max"}
)

// limitCases are about "P run [-m BYTES] [--cpus N] [--pids-limit N] ROOTFS CMD…". What the kernel says of the cgroup is
// what counts.
func limitCases() ([]kase, error) {
	plain := sync.OnceValues(sampleTar)
	in := func(name string, flags []string, try func(*trial) error) kase {
		return kase{name, func(t *trial) error {
			if why := t.NoCgroup(); why != nil {
				return &skipped{advice.Of(why)}
			}
			if err := t.makeRoot(plain); err != nil {
				return err
			}
			// Step 5 asked for a /dev: here P may leave it out. Not where the root of a user namespace makes no devices.
			for name, minor := range map[string]uint32{"null": 3, "zero": 5} {
				if usernamespace.Inside() {
					break
				}
				if err := unix.Mknod(t.at(rootfs, "dev", name), unix.S_IFCHR|0o666, int(unix.Mkdev(1, minor))); err != nil {
					return fmt.Errorf("make the node %s: %w", name, err)
				}
			}
			t.limits = flags
			return try(t)
		}}
	}
	memory, cpus, pids := []string{"-m", "33554432"}, []string{"--cpus", "0.5"}, []string{"--pids-limit", "16"}
	all := append(append(append([]string{}, memory...), cpus...), pids...)
	has := func(limits ...limit) func(*trial) error { return func(t *trial) error { return t.has(limits...) } }
	return []kase{
		in("runs", nil, func(t *trial) error { return t.says("echo hello", "hello") }),
		in("status", all, func(t *trial) error { return t.ends(7, "sh", "-c", "exit 7") }),
		in("pid", all, func(t *trial) error { return t.says("echo $$", "1") }),
		in("cgroup", all, has()),
		in("pids", pids, has(pidsLimit)),
		in("memory", memory, has(memoryLimit)),
		in("swap", memory, has(swapLimit)),
		in("cpu", cpus, has(cpuLimit)),
		in("together", all, has(memoryLimit, cpuLimit, pidsLimit)),
		in("no-limit", memory, has(noPidsLimit)),
		in("children", all, holdsChildren),
		in("killed", memory, func(t *trial) error { return t.ends(137, "sh", "-c", "exec tail /dev/zero") }),
		in("refused", pids, refusesForks),
		in("orphan", all, func(t *trial) error { return t.ends(3, "sh", "-c", "sleep 600 & exit 3") }),
		in("two", all, runsTwo),
		in("bad", []string{"-m", "lots"}, func(t *trial) error {
			return t.refuses(say("an error, and a status that is not 0"), "", t.runIn("true")...)
		}),
	}, nil
}

// of chooses the word of the version that this machine has.
func (l limit) of(c *cage.Cage) (file, value string) {
	return c.Word(l.v2File, l.v1File), c.Word(l.v2, l.v1)
}

// has looks whether the command is in a cgroup of its own with these limits.
func (t *trial) has(limits ...limit) error {
	return t.during(forever, func(_ *cage.Running, pid int) error {
		if len(limits) == 0 {
			_, err := t.cgroupOf(pid, "memory")
			return err
		}
		for _, l := range limits {
			folder, err := t.cgroupOf(pid, l.controller)
			if err != nil {
				return err
			}
			file, want := l.of(t.Cage)
			raw, err := os.ReadFile(filepath.Join(folder, file))
			if errors.Is(err, os.ErrNotExist) {
				continue // a kernel that does not count swap
			}
			if got := strings.TrimSpace(string(raw)); err != nil || got != want {
				return errors.Join(err, failed("", file+": "+want, file+": "+got))
			}
		}
		return nil
	})
}

func (t *trial) cgroupOf(pid int, controller string) (string, error) {
	var folder string
	var err error
	soon(func() bool { // one that is put there late is told by another case
		folder, err = t.CgroupOf(pid, controller)
		return folder != "" || err != nil
	})
	if err == nil && folder == "" {
		err = failed("cgroup", say("the command is in a cgroup of its own, below %s", t.Word("/sys/fs/cgroup", "/sys/fs/cgroup/"+controller)), say("it is in the one that P is in"))
	}
	return folder, err
}

// holdsChildren looks whether all processes of the container are in one cgroup, also those that were there first.
func holdsChildren(t *trial) error {
	return t.during("sleep 600 & sleep 600 & "+forever, func(_ *cage.Running, pid int) error {
		own, err := t.cgroupOf(pid, "pids")
		if err != nil {
			return err
		}
		all, err := t.Container()
		if err != nil {
			return err
		}
		for _, pid := range all {
			folder, err := t.CgroupOf(pid, "pids")
			if err != nil {
				return err
			}
			if folder != own && !hasEnded(pid) {
				return failed("", say("all processes of the container are in its cgroup"), say("one that the command started at once is not"))
			}
		}
		return nil
	})
}

func refusesForks(t *trial) error {
	args := t.runIn("sh", "-c", "i=0; while [ $i -lt 40 ]; do sleep 60 & i=$((i+1)); done; echo forked 40 times; exit 5")
	o, err := t.run(args...)
	if err == nil && strings.Contains(o.Stdout, "forked 40 times") {
		err = failed("", say("the kernel refuses a fork"), o.Stdout)
	}
	return err
}

// runsTwo runs a second container while the first is there.
func runsTwo(t *trial) error {
	return t.during(forever, func(_ *cage.Running, first int) error {
		r, err := t.Start(append(append([]string{}, t.program...), t.runIn("sh", "-c", forever)...), nil, nil)
		if err != nil {
			return failed("start", "", err.Error())
		}
		soon(func() bool { return strings.Contains(r.Stdout(), "ready") })
		both, err := t.Firsts()
		if err != nil {
			return err
		}
		var folders []string
		for _, pid := range both {
			folder, folderErr := t.cgroupOf(pid, "memory")
			folders, err = append(folders, folder), errors.Join(err, folderErr)
			if pid != first {
				unix.Kill(pid, unix.SIGKILL)
			}
		}
		_, waitErr := r.Wait(most)
		if err = errors.Join(err, waitErr); err == nil && (len(folders) != 2 || folders[0] == folders[1]) {
			err = failed("", say("two cgroups"), say("%d containers run, in %q", len(folders), folders))
		}
		return err
	})
}
