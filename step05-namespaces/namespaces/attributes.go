//go:build linux

package namespaces

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step04-overlay/story"
	"gocker/step05-namespaces/birth"
	"gocker/step05-namespaces/inside"
)

// ErrUnsupported says that a spec wants something that this package does not do. Nothing is left out silently.
var ErrUnsupported = errors.New("not supported")

// refuse names what a spec wants and would not get.
func refuse(spec *specs.Spec) error {
	p, l := spec.Process, spec.Linux
	for what, wanted := range map[string]bool{
		"process.apparmorProfile": p.ApparmorProfile != "", "process.selinuxLabel": p.SelinuxLabel != "",
		"process.scheduler": p.Scheduler != nil, "process.ioPriority": p.IOPriority != nil,
		"process.execCPUAffinity": p.ExecCPUAffinity != nil, "linux.mountLabel": l.MountLabel != "",
		"linux.uidMappings": len(l.UIDMappings) > 0, "linux.gidMappings": len(l.GIDMappings) > 0,
		"linux.timeOffsets": len(l.TimeOffsets) > 0, "linux.personality": l.Personality != nil,
		"linux.intelRdt": l.IntelRdt != nil, "linux.netDevices": len(l.NetDevices) > 0,
		"linux.rootfsPropagation": l.RootfsPropagation != "" && l.RootfsPropagation != "private" && l.RootfsPropagation != "rprivate",
	} {
		if wanted {
			return fmt.Errorf("%s: %w", what, ErrUnsupported)
		}
	}
	return nil
}

// rlimits are the specification's names for getrlimit(2)'s limits.
var rlimits = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU, "RLIMIT_DATA": unix.RLIMIT_DATA,
	"RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS, "RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK,
	"RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE, "RLIMIT_NICE": unix.RLIMIT_NICE, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE,
	"RLIMIT_NPROC": unix.RLIMIT_NPROC, "RLIMIT_RSS": unix.RLIMIT_RSS, "RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO,
	"RLIMIT_RTTIME": unix.RLIMIT_RTTIME, "RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
}

// addRlimits has the child set its own limits, as long as it is root. They go on to all that it starts.
func (p *Process) addRlimits(limits []specs.POSIXRlimit) error {
	for _, l := range limits {
		number, ok := rlimits[l.Type]
		if !ok {
			return fmt.Errorf("limit %q: %w", l.Type, ErrUnsupported)
		}
		what := fmt.Sprintf("set %s to %d, and at most %d", l.Type, l.Soft, l.Hard)
		p.list.Add(what, unix.SYS_PRLIMIT64, 0, number, unsafe.Pointer(&unix.Rlimit{Cur: l.Soft, Max: l.Hard}), 0)
		p.later.Run(story.Become, "a limit that it may lower", "prlimit",
			fmt.Sprintf("--%s=%s:%s", strings.ToLower(strings.TrimPrefix(l.Type, "RLIMIT_")), rlimit(l.Soft), rlimit(l.Hard)))
	}
	return nil
}

// rlimit is prlimit(1)'s word for a limit.
func rlimit(n uint64) string {
	if n == unix.RLIM_INFINITY {
		return "unlimited"
	}
	return strconv.FormatUint(n, 10)
}

// adviseOn adds what to do about a call of the child that failed.
func adviseOn(err error) error {
	var failed birth.Failed
	if errors.As(err, &failed) && failed.Number == unix.SYS_PRLIMIT64 && failed.Errno == unix.EPERM {
		return advice.Add(err, "only who has CAP_SYS_RESOURCE may raise a hard limit; ulimit -H -a says what yours are")
	}
	return err
}

// setOOMScore says how soon the kernel kills a process where memory runs out: see proc_pid_oom_score_adj(5). It must see
// the host's /proc.
func setOOMScore(pid, score int) error {
	err := writeProc(fmt.Sprintf("/proc/%d/oom_score_adj", pid), strconv.Itoa(score))
	if errors.Is(err, unix.EACCES) {
		return advice.Add(err, "only who has CAP_SYS_RESOURCE may make it less than gocker's own")
	}
	return err
}

// writeProc writes to a file of a proc file system, and to no other: what is only called /proc may be a file that does
// nothing, or worse (CVE-2019-16884).
func writeProc(name, value string) error {
	fd, err := unix.Openat2(unix.AT_FDCWD, name, &unix.OpenHow{
		Flags: unix.O_WRONLY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS,
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

// Sysctls that belong to an ipc or uts namespace; to a network namespace belong all that begin with net. The others are
// the whole machine's.
var (
	ipcSysctls = []string{
		"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
		"kernel.shm_rmid_forced",
	}
	utsSysctls = []string{"kernel.hostname", "kernel.domainname"}
)

// checkSysctls sees that none is the host's.
func checkSysctls(sysctls map[string]string, o nsSet) error {
	for name := range sysctls {
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
		if !o.has(flag) || strings.Contains(name, "..") {
			return advice.Add(fmt.Errorf("set the sysctl %q: %w", name, ErrShared),
				"those of a container are kernel.msg…, shm… and sem, fs.mqueue.… and net.…, in namespaces of its own")
		}
	}
	return nil
}

// setSysctls sets what the kernel keeps for each namespace: the calling thread is in the container's. See sysctl(8).
func setSysctls(sysctls map[string]string, tell story.Story) error {
	for name, value := range sysctls {
		if err := writeProc(path.Join("/proc/sys", strings.ReplaceAll(name, ".", "/")), value); err != nil {
			return fmt.Errorf("set the sysctl %q: %w", name, err)
		}
		tell.Write(story.Inside, "what the kernel keeps for each namespace", path.Join("/proc/sys", strings.ReplaceAll(name, ".", "/")), value)
	}
	return nil
}
