//go:build linux

package runtime

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step04-overlay/check"
	"gocker/step05-namespaces/inside"
	"gocker/step05-namespaces/namespaces"
)

// Sysctls that belong to an ipc or uts namespace; to a network namespace belong all that begin with net. The others are
// the whole machine's.
var (
	ipcSysctls = []string{
		"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
		"kernel.shm_rmid_forced",
	}
	utsSysctls = []string{"kernel.hostname", "kernel.domainname"}
)

// checkSysctls sees that none is the host's. own are the flags of the namespaces that are not.
func checkSysctls(sysctls map[string]string, own int) error {
	for _, name := range sorted(sysctls) {
		name = strings.ReplaceAll(name, "/", ".")
		flag := 0
		switch {
		case slices.Contains(ipcSysctls, name) || strings.HasPrefix(name, "fs.mqueue."):
			flag = unix.CLONE_NEWIPC
		case slices.Contains(utsSysctls, name):
			flag = unix.CLONE_NEWUTS
		case strings.HasPrefix(name, "net."):
			flag = unix.CLONE_NEWNET
		}
		if own&flag == 0 || strings.Contains(name, "..") {
			return advice.Add(fmt.Errorf("set the sysctl %q: %w", name, namespaces.ErrShared),
				"those of a container are kernel.msg…, shm… and sem, fs.mqueue.… and net.…, in namespaces of its own")
		}
	}
	return nil
}

func sorted(sysctls map[string]string) []string { return slices.Sorted(maps.Keys(sysctls)) }

// sysctls is the part that sets a kernel setting that each namespace has: the thread is in the container's. See sysctl(8).
func sysctls(spec *specs.Spec) namespaces.Part {
	return namespaces.Part{Ready: func(*namespaces.Process) error {
		for _, name := range sorted(spec.Linux.Sysctl) {
			write := func() error { return writeProc(sysctlFile(name), spec.Linux.Sysctl[name]) }
			err := error(nil)
			if strings.HasPrefix(name, "net") { // for these the kernel asks for a capability
				err = write()
			} else {
				err = withIDOfRoot(spec, write)
			}
			if err != nil {
				return fmt.Errorf("set the sysctl %q: %w", name, err)
			}
		}
		return nil
	}}
}

func sysctlFile(name string) string {
	return path.Join("/proc/sys", strings.ReplaceAll(name, ".", "/"))
}

// oomScore is the part that says how soon the kernel kills a process where memory runs out: see proc_pid_oom_score_adj(5).
func oomScore(process *specs.Process) namespaces.Part {
	return namespaces.Part{Ready: func(p *namespaces.Process) error {
		if process.OOMScoreAdj == nil {
			return nil
		}
		_, err := check.Elsewhere(func() (any, error) { // where /proc has the number that the host knows it by
			return nil, writeProc(fmt.Sprintf("/proc/%d/oom_score_adj", p.Pid), strconv.Itoa(*process.OOMScoreAdj))
		})()
		if errors.Is(err, unix.EACCES) {
			return advice.Add(err, "only a process with CAP_SYS_RESOURCE may make it less than gocker's own")
		}
		return err
	}}
}

// writeProc writes to a file of a proc file system, and to no other: what is only called /proc may be a file that does
// nothing, or worse (CVE-2019-16884). An image's /proc may be a link: the proc file system is mounted where it leads.
func writeProc(name, value string) error {
	fd, err := unix.Openat2(unix.AT_FDCWD, name, &unix.OpenHow{
		Flags: unix.O_WRONLY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	w := os.NewFile(uintptr(fd), name)
	defer w.Close()
	if !inside.IsFileSystem(w, unix.PROC_SUPER_MAGIC) {
		return fmt.Errorf("write %q: it is not of a proc file system", name)
	}
	_, err = w.WriteString(value)
	return err
}
