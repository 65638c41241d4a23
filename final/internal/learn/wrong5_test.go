//go:build linux

package learn

// wrongRuns are wrong answers to step 5.
var wrongRuns = []wrong{
	{"/ is left shared", "mount-left", `check(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))`, `if false {
		check(nil)
	}
	check(unix.Mount("tmpfs", "/mnt", "tmpfs", 0, ""))
	check(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))`},
	{"the output is swallowed", "runs", `cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr`, `cmd.Stdin, cmd.Stderr = os.Stdin, os.Stderr`},
	{"the input is left out", "stdin", `cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr`, `cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr`},
	{"a file of the program stays open", "files", `unix.SOCK_DGRAM|unix.SOCK_CLOEXEC`, `unix.SOCK_DGRAM`},
	{"nobody waits for a helper", "zombie", `	check(cmd.Start())`, `	check(exec.Command("true").Start())
	check(cmd.Start())`},
	{"a helper is left", "process-left", `	check(cmd.Start())`, `	check(exec.Command("sleep", "600").Start())
	check(cmd.Start())`},
	{"a status of 0 for everything", "status", `	return cmd.ProcessState.ExitCode()`, `	return 0`},
	{"the root is the machine's", "root", `check(unix.PivotRoot(".", "."))
	check(unix.Unmount(".", unix.MNT_DETACH))`, ``},
	{"the wrong process is in the pid namespace", "pid", `unix.CLONE_NEWPID | `, ``},
	{"/proc is not the container's", "proc", `check(unix.Mount("proc", "proc", "proc", 0, ""))`, `check(unix.Mount("/proc", "proc", "", unix.MS_BIND|unix.MS_REC, ""))`},
	{"the host name is the machine's", "host-name", `check(unix.Sethostname([]byte("container")))`, ``},
	{"the network is the machine's", "net", ` | unix.CLONE_NEWNET`, ``},
	{"the ipc namespace is the machine's", "ipc", ` | unix.CLONE_NEWIPC`, ``},
	{"the device lo is down", "lo", `	loopbackUp()
`, ``},
	{"the host's PATH", "path", `	os.Clearenv()
	check(os.Setenv("PATH", standardPath))`, ``},
	{"an empty /dev", "dev", `strings.Fields("null zero full random urandom")`, `strings.Fields("")`},
	{"a command that is not there has status 1", "not-found", `		return 127, err`, `		return 1, err`},
	{"a command that cannot be executed has status 1", "not-executable", `	return 126, err`, `	return 1, err`},
	{"chroot in place of pivot_root", "pivot", `check(unix.PivotRoot(".", "."))
	check(unix.Unmount(".", unix.MNT_DETACH))`, `check(unix.Chroot("."))`},
	{"the old root stays mounted", "old-root", `check(unix.PivotRoot(".", "."))
	check(unix.Unmount(".", unix.MNT_DETACH))`, `check(unix.PivotRoot(".", "mnt"))`},
	{"a folder for the old root stays", "rest", `check(unix.PivotRoot(".", "."))
	check(unix.Unmount(".", unix.MNT_DETACH))`, `check(os.MkdirAll(".old", 0o755))
	check(unix.PivotRoot(".", ".old"))
	check(unix.Unmount(".old", unix.MNT_DETACH))`},
	{"SIGTERM ends the wrong process", "term", `signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)`, `signal.Notify(signals, unix.SIGHUP)`},
	{"the container outlives its program", "killed", `Pdeathsig:  syscall.SIGKILL,`, ``},
}
