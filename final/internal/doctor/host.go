//go:build linux

package doctor

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"gocker/step03-layers/usernamespace"
	"gocker/step04-overlay/check"
	"gocker/step05-namespaces/lsns"
)

// userNamespaces tells whether this user can make a user namespace and map ids into it, and mount an overlay there:
// what containers without root will need. dir is an empty folder for the overlay. The map must be written to be sure:
// some kernels let the namespace be made and refuse the map. See user_namespaces(7).
func userNamespaces(dir string) []check.Result {
	const name, breaks = "user namespaces", "containers without root"
	miss := func(found, mend string) []check.Result {
		return []check.Result{check.Miss(name, found, breaks, mend).Optional()}
	}
	cmd := exec.Cmd{
		Path: "/proc/self/exe", Args: []string{overlayProbe, dir},
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		},
	}
	var said strings.Builder
	cmd.Stderr = &said
	err := cmd.Start()
	if err == nil {
		results := []check.Result{check.Good(name, "can be made, and ids can be mapped").Optional()}
		err := cmd.Wait()
		if cmd.ProcessState.ExitCode() == noProc {
			return append(results, covered(said.String()))
		}
		if err != nil {
			return append(results, check.Miss("overlay without root", said.String(), breaks,
				"a kernel from 5.11 on, and a folder that is not on an overlay itself").Optional())
		}
		return append(results, check.Good("overlay without root", "can be mounted in a user namespace").Optional())
	}
	if found, mend := usernamespace.Forbidden("/"); found != "" {
		return miss(fmt.Sprintf("%v: %s", err, found), mend)
	}
	if readOnly("/proc") {
		return miss(fmt.Sprintf("%v: /proc is read-only, so no id map can be written", err), "mount -o remount,rw /proc")
	}
	if errors.Is(err, syscall.EPERM) && check.Text("/proc/sys/user/max_user_namespaces") != "" { // the kernel has them
		return miss("the kernel has them, and this process may not make them", "leave out what forbids it: a chroot, a security module, or a container's filter of system calls (docker run --security-opt seccomp=unconfined)")
	}
	return miss(err.Error(), "a kernel with CONFIG_USER_NS, and no security module that forbids it")
}

// covered is about a proc file system that shows not all: the kernel mounts no other one in a user namespace then, as that would show
// what somebody has covered. See mount_too_revealing in its fs/namespace.c.
func covered(found string) check.Result {
	var covers []string
	for line := range strings.Lines(check.Text("/proc/self/mountinfo")) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], "/proc/") {
			covers = append(covers, fields[4])
		}
	}
	r := check.Miss("/proc without root", found+": these are covered: "+strings.Join(covers, ", "), "containers without root",
		"as root: umount "+strings.Join(covers, " ")+"; in a container: docker run --security-opt systempaths=unconfined")
	r.Required = usernamespace.Inside()
	return r
}

// noProc is the status of a probe that could mount an overlay, and no proc file system.
const noProc = 3

// overlayProbe is the name under which this program mounts an overlay in the folder that is its argument, and ends.
const overlayProbe = "gocker-overlay-probe"

// Init must be called before main does anything else: if this process is the child of a check, it does that and never
// returns. Only a program with a single thread may enter a user namespace, and what Go starts anew is one until main
// begins.
func Init() {
	if os.Args[0] == overlayProbe {
		probeOverlay(os.Args[1])
	}
}

func probeOverlay(dir string) {
	var options []string
	for _, option := range []string{"lowerdir", "upperdir", "workdir"} {
		path := filepath.Join(dir, option)
		options = append(options, option+"="+path)
		if err := os.Mkdir(path, 0o700); err != nil {
			fmt.Fprint(os.Stderr, err)
			os.Exit(1)
		}
	}
	// userxattr: a process that is root only in a user namespace cannot write trusted.overlay.*, but user.overlay.*.
	err := unix.Mount("overlay", filepath.Join(dir, "lowerdir"), "overlay", 0, strings.Join(options, ",")+",userxattr")
	if err != nil {
		fmt.Fprintf(os.Stderr, "mount overlay: %v", err)
		os.Exit(1)
	}
	if err := unix.Mount("proc", filepath.Join(dir, "lowerdir"), "proc", 0, ""); err != nil {
		fmt.Fprintf(os.Stderr, "mount proc: %v", err)
		os.Exit(noProc)
	}
	os.Exit(0)
}

func readOnly(dir string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(dir, &fs) == nil && fs.Flags&unix.ST_RDONLY != 0
}

// proc tells whether /proc shows all and can be written.
func proc() check.Result {
	const name, breaks = "/proc", "lsns and ps miss processes; sysctls and id maps cannot be written"
	if readOnly("/proc") {
		return check.Miss(name, "read-only", breaks, "mount -o remount,rw /proc").Optional()
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo") // what cannot be read says nothing
	for line := range strings.Lines(string(mounts)) {
		if at, options, ok := strings.Cut(line, " - proc "); ok && strings.Contains(at, " /proc ") && hides(options) {
			return check.Miss(name, "mounted with hidepid: other users' processes are hidden", breaks, "mount -o remount,hidepid=0 /proc").Optional()
		}
	}
	return check.Good(name, "shows all processes").Optional()
}

// hides tells whether one of a proc mount's options is hidepid, and not off: see proc(5).
func hides(options string) bool {
	_, value, ok := strings.Cut(options, "hidepid=")
	return ok && !strings.HasPrefix(value, "0") && !strings.HasPrefix(value, "off")
}

// inside tells whether this process is in a container itself. The namespaces that the kernel starts with have fixed
// inode numbers: see include/linux/proc_ns.h in its sources.
func inside() check.Result {
	initial := map[string]uint64{"cgroup": 0xEFFFFFFB, "pid": 0xEFFFFFFC, "user": 0xEFFFFFFD}
	var in []string
	for typ, first := range initial {
		if ns, err := lsns.Inode(os.Getpid(), typ); err == nil && ns != first && typ != "user" { // ownIDs tells of that
			in = append(in, typ)
		}
	}
	slices.Sort(in)
	if len(in) > 0 {
		return check.Miss("host", "inside a container: its own "+strings.Join(in, ", ")+" namespaces",
			"it can forbid what its own host allows, and limits hold only below its own", "run gocker on the host, or give that container what the lines above miss").Optional()
	}
	return check.Good("host", "not inside a container").Optional()
}

// leastKernel has mount_setattr(2), by which a bind is read-only before anybody can reach it. close_range(2), without
// which files could leak into containers, is older.
const leastKernel = "5.12"

func kernel() check.Result {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return check.Miss("kernel", err.Error(), "nothing is known of it", "none")
	}
	release := unix.ByteSliceToString(uts.Release[:])
	if slices.Compare(numbers(release), numbers(leastKernel)) < 0 {
		return check.Miss("kernel", release+" is older than "+leastKernel, "nothing can be made read-only for containers", "install a newer kernel, of the distribution's backports for example")
	}
	return check.Good("kernel", "%s", release)
}

// numbers are the first two of a kernel's release, "6.1.0-37-amd64".
func numbers(release string) []int {
	var major, minor int
	fmt.Sscanf(release, "%d.%d", &major, &minor) // what is no number is 0: older than any
	return []int{major, minor}
}
