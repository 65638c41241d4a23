// An answer for step 6: P run [-m BYTES] [--cpus N] [--pids-limit N] ROOTFS CMD…
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const top = "/sys/fs/cgroup"

func main() {
	status := 125
	func() {
		defer func() {
			if err := recover(); err != nil {
				fmt.Fprintln(os.Stderr, "run:", err)
			}
		}()
		flags := flag.NewFlagSet("run", flag.PanicOnError)
		memory := flags.Int64("m", 0, "bytes")
		cpus := flags.Float64("cpus", 0, "processors")
		pids := flags.Int64("pids-limit", 0, "processes")
		check(flags.Parse(os.Args[2:]))
		folders := makeCgroup()
		defer remove(folders)
		if *memory > 0 {
			set(folders, "memory", "memory.max", "memory.limit_in_bytes", fmt.Sprint(*memory))
			set(folders, "memory", "memory.swap.max", "memory.memsw.limit_in_bytes", map[bool]string{true: "0", false: fmt.Sprint(*memory)}[isV2()])
		}
		if *cpus > 0 && isV2() {
			set(folders, "cpu", "cpu.max", "", fmt.Sprintf("%d 100000", int(*cpus*100000)))
		} else if *cpus > 0 {
			set(folders, "cpu", "", "cpu.cfs_quota_us", fmt.Sprint(int(*cpus*100000)))
		}
		if *pids > 0 {
			set(folders, "pids", "pids.max", "pids.max", fmt.Sprint(*pids))
		}
		status = run(folders, flags.Arg(0), flags.Args()[1:])
	}()
	os.Exit(status)
}

func check(err error) { must(0, err) }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
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

// run waits for the container. The shell is PID 1 of it. It goes into the cgroup first, and becomes the command in the end.
func run(folders map[string]string, rootfs string, command []string) int {
	runtime.LockOSThread() // Pdeathsig means the thread that starts the child
	script := `for f in "$1" "$2" "$3"; do echo 0 > "$f/cgroup.procs" || exit 125; done
		mount --make-rprivate / && mount --bind "$4" "$4" && cd "$4" && mount -t proc proc proc &&
			pivot_root . . && umount -l . && cd / && hostname container || exit 125
		shift 4; exec "$@"`
	cmd := exec.Command("sh", append([]string{"-c", script, "sh", folders["memory"], folders["cpu"], folders["pids"], rootfs}, command...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET,
		Pdeathsig:  unix.SIGKILL,
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT)
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
