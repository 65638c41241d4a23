//go:build linux

package learn

// wrongLimits are wrong answers to step 6.
var wrongLimits = []wrong{
	{"the output is swallowed", "runs", `cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr`, `cmd.Stdin, cmd.Stderr = os.Stdin, os.Stderr`},
	{"a status of 0 for everything", "status", `	os.Exit(status)`, `	_ = status`},
	{"no pid namespace", "pid", `unix.CLONE_NEWPID | `, ``},
	{"the command is in no cgroup", "cgroup", `"CGROUPS="+strings.Join(cgroups, ":")`, `"CGROUPS="`},
	{"the limit of processes is left out", "pids", `if l.pids > 0 {`, `if false {`},
	{"the limit of memory has the name that the other version has, and nobody looks at the error", "memory",
		`	err := os.WriteFile(filepath.Join(folders[controller], file), []byte(value), 0)`, `	if controller == "memory" {
		os.WriteFile(filepath.Join(folders[controller], map[bool]string{true: v1, false: v2}[isV2()]), []byte(value), 0)
		return
	}
	err := os.WriteFile(filepath.Join(folders[controller], file), []byte(value), 0)`},
	{"swap has no limit", "swap", `"memory.swap.max", "memory.memsw.limit_in_bytes"`, `"memory.swap.none", "memory.memsw.none"`},
	{"the time of the processor is taken for percent", "cpu", `set(folders, "cpu", "", "cpu.cfs_quota_us", fmt.Sprint(int(l.cpus*100000)))`, `set(folders, "cpu", "", "cpu.cfs_quota_us", fmt.Sprint(int(l.cpus*200000)))`},
	{"the last limit alone", "together", `	if l.pids > 0 {
		set`, `	if l.pids > 0 {
		if l.memory > 0 {
			set(folders, "memory", "memory.max", "memory.memsw.limit_in_bytes", "-1")
			set(folders, "memory", "memory.max", "memory.limit_in_bytes", "-1")
		}
		set`},
	{"a limit that nobody asked for", "no-limit", `	folders := makeCgroup()`, `	folders := makeCgroup()
	if l.pids == 0 {
		l.pids = 64
	}`},
	{"the process is put into its cgroup after it has forked", "children", `check(cmd.Start())`, `cmd.Env = append(cmd.Env, "CGROUPS=")
	check(cmd.Start())
	go func() {
		time.Sleep(2 * time.Second)
		for _, folder := range cgroups {
			os.WriteFile(filepath.Join(folder, "cgroup.procs"), fmt.Append(nil, cmd.Process.Pid), 0)
		}
	}()`},
	{"the number of a signal is the status", "killed", `return 128 + int(ws.Signal())`, `return int(ws.Signal())`},
	{"two containers have one cgroup", "two", `fmt.Sprintf("container-%d", os.Getpid())`, `"container"`},
	{"a limit that is none is no limit", "bad", "flags.Int64Var(&l.memory, \"m\", 0, \"limit of memory, in `bytes`\")",
		`flags.Func("m", "", func(s string) error { fmt.Sscan(s, &l.memory); return nil })`},
	{"the cgroup is left", "cgroup-left", `	for _, folder := range folders {
		for`, `	for _, folder := range folders {
		folder += "-"
		for`},
}
