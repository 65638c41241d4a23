// An answer for step 5: P run ROOTFS CMD…
package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const standardPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func run(rootfs string, command []string, cgroups []string) (status int, err error) {
	status = 125
	defer catch(&err)
	if os.Getenv("CHILD") != "" {
		return child(rootfs, command)
	}
	return parent(rootfs, command, cgroups), nil
}

// Pdeathsig means threads: the one that starts the child has to live on, and in the child only the first thread has it, so that
// one must execute the command.
func init() { runtime.LockOSThread() }

// parent starts this program once more, as PID 1 of new namespaces, and waits for its end.
func parent(rootfs string, command, cgroups []string) int {
	cmd := exec.Command("/proc/self/exe", append([]string{"run", rootfs}, command...)...)
	cmd.Env = append(os.Environ(), "CHILD=yes", "CGROUPS="+strings.Join(cgroups, ":"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	check(cmd.Start())
	go func() {
		for s := range signals {
			cmd.Process.Signal(s)
		}
	}()
	cmd.Wait() // its status says how it ended
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return cmd.ProcessState.ExitCode()
}

// child is in the namespaces. It changes its root, and becomes the command.
func child(rootfs string, command []string) (status int, err error) {
	for _, folder := range filepath.SplitList(os.Getenv("CGROUPS")) {
		check(os.WriteFile(filepath.Join(folder, "cgroup.procs"), []byte("0"), 0))
	}
	check(unix.Sethostname([]byte("container")))
	loopbackUp()
	check(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")) // else what it mounts appears on the host
	check(unix.Mount(rootfs, rootfs, "", unix.MS_BIND|unix.MS_REC, ""))
	check(os.Chdir(rootfs))
	check(unix.Mount("proc", "proc", "proc", 0, ""))
	check(unix.Mount("tmpfs", "dev", "tmpfs", 0, "mode=755"))
	for _, name := range strings.Fields("null zero full random urandom") { // bound, as only the machine's root makes devices
		check(os.WriteFile(filepath.Join("dev", name), nil, 0o644))
		check(unix.Mount(filepath.Join("/dev", name), filepath.Join("dev", name), "", unix.MS_BIND, ""))
	}
	check(unix.PivotRoot(".", "."))
	check(unix.Unmount(".", unix.MNT_DETACH)) // the old root, which is on top of the new one
	check(os.Chdir("/"))

	os.Clearenv()
	check(os.Setenv("PATH", standardPath))
	file, err := exec.LookPath(command[0])
	if err == nil {
		err = unix.Exec(file, command, os.Environ())
	}
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return 127, err
	}
	return 126, err
}

// loopbackUp does what "ip link set lo up" does.
func loopbackUp() {
	socket := must(unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0))
	lo := must(unix.NewIfreq("lo"))
	lo.SetUint16(unix.IFF_UP)
	check(unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, lo))
}
