// An answer for step 6: P run [-m BYTES] [--cpus N] [--pids-limit N] ROOTFS CMD…
package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const top = "/sys/fs/cgroup"

func runLimited(l limits, rootfs string, command []string) (status int, err error) {
	status = 125
	defer catch(&err)
	folders := makeCgroup()
	defer remove(folders)
	if l.memory > 0 {
		set(folders, "memory", "memory.max", "memory.limit_in_bytes", fmt.Sprint(l.memory))
		set(folders, "memory", "memory.swap.max", "memory.memsw.limit_in_bytes", map[bool]string{true: "0", false: fmt.Sprint(l.memory)}[isV2()])
	}
	if l.cpus > 0 && isV2() {
		set(folders, "cpu", "cpu.max", "", fmt.Sprintf("%d 100000", int(l.cpus*100000)))
	} else if l.cpus > 0 {
		set(folders, "cpu", "", "cpu.cfs_quota_us", fmt.Sprint(int(l.cpus*100000)))
	}
	if l.pids > 0 {
		set(folders, "pids", "pids.max", "pids.max", fmt.Sprint(l.pids))
	}
	return run(rootfs, command, slices.Collect(maps.Values(folders)))
}

func isV2() bool {
	_, err := os.Stat(filepath.Join(top, "cgroup.controllers"))
	return err == nil
}

// makeCgroup makes a folder: with v1 one for each controller.
func makeCgroup() map[string]string {
	name, folders := fmt.Sprintf("container-%d", os.Getpid()), map[string]string{}
	if isV2() {
		check(os.WriteFile(filepath.Join(top, "cgroup.subtree_control"), []byte("+memory +cpu +pids"), 0))
	}
	for _, controller := range []string{"memory", "cpu", "pids"} {
		folders[controller] = filepath.Join(top, controller, name)
		if isV2() {
			folders[controller] = filepath.Join(top, name)
		}
		check(os.MkdirAll(folders[controller], 0o755))
	}
	return folders
}

func set(folders map[string]string, controller, v2, v1, value string) {
	file := v1
	if isV2() {
		file = v2
	}
	err := os.WriteFile(filepath.Join(folders[controller], file), []byte(value), 0)
	if os.IsNotExist(err) || os.IsPermission(err) && strings.Contains(file, "sw") {
		return // a kernel that does not count swap
	}
	check(err)
}

// remove removes the cgroup. It is busy for a moment, until the last process is quite gone.
func remove(folders map[string]string) {
	for _, folder := range folders {
		for range 100 {
			if err := unix.Rmdir(folder); err != unix.EBUSY {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}
