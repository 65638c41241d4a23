//go:build linux

package why

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// readLog calls each for every message of the kernel's log, the oldest first. One that cannot be read has none: that
// needs CAP_SYSLOG, and in a container mostly there is no such file. See
// https://docs.kernel.org/admin-guide/dev-kmsg.html.
func readLog(each func(text string)) {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	record := make([]byte, 8<<10) // one a read, never more
	for {
		n, err := unix.Read(fd, record)
		switch {
		case err == unix.EPIPE: // it was overwritten before it was read; the next one is there
			continue
		case err != nil || n == 0: // EAGAIN: that was all; and in some containers it is /dev/null
			return
		}
		// "6,1234,56789,-;text", and lines with more of it that begin with a blank.
		_, text, _ := strings.Cut(string(record[:n]), ";")
		text, _, _ = strings.Cut(text, "\n")
		each(text)
	}
}

// oomKill is the message of dump_oom_victim and mem_cgroup_print_oom_context, in the kernel's mm/oom_kill.c and
// mm/memcontrol.c. The name that the process gives itself comes after the trusted part.
var oomKill = sync.OnceValue(func() *regexp.Regexp { // most commands never look
	return regexp.MustCompile(`^oom-kill:constraint=(\w+),.*?(?:,oom_memcg=(.*?))?(?:,global_oom)?,task_memcg=(.*?),task=(.*),pid=(\d+),uid=\d+$`)
})

// mostVictims is how many are kept.
const mostVictims = 8

// lookInLog finds what the kernel's log says of the container whose first process was pid.
func (e *End) lookInLog(pid int) {
	// The kernel's log has the numbers of the first pid namespace. In another one, as of a container, we cannot know ours there.
	foreign := false
	if ns, err := os.Readlink("/proc/self/ns/pid"); err != nil || ns != firstPidNamespace {
		foreign, pid = true, -1
	}
	named := fmt.Sprintf("[%d]: ", pid)
	readLog(func(text string) {
		if m := oomKill().FindStringSubmatch(text); m != nil && inside(m[3], e.cgroup()) && len(e.Killed) < mostVictims {
			v := Victim{Name: m[4], Cgroup: m[2]}
			v.Pid, _ = strconv.Atoi(m[5])
			if v.First = v.Pid == pid; m[1] != "CONSTRAINT_MEMCG" {
				v.Cgroup = ""
			}
			e.Killed = append(e.Killed, v)
		}
		// "name[pid]: segfault at 0 ip … sp … error 4 in …", "traps: name[pid] trap invalid opcode ip:…"
		at := strings.Index(text, named)
		if at < 0 && strings.HasPrefix(text, "traps: ") {
			at = strings.Index(text, strings.TrimSuffix(named, ": "))
		}
		switch {
		case at >= 0 && e.Signal != 0:
			e.Broke = text
		case e.Signal == unix.SIGSYS && strings.Contains(text, fmt.Sprintf(" pid=%d ", pid)) && strings.HasPrefix(text, "audit: type=1326 "):
			e.Broke = text
		}
	})
	if foreign && e.Signal == unix.SIGKILL && len(e.Killed) > 0 {
		e.Killed[len(e.Killed)-1].First = true // most likely: its end ends all others
	}
}

// firstPidNamespace is PROC_PID_INIT_INO: see the kernel's include/linux/proc_ns.h.
const firstPidNamespace = "pid:[4026531836]"

// wasRefusedForks tells whether the kernel's log has it that the container was refused a process. It has the first time
// of each cgroup: see pids_event in its kernel/cgroup/pids.c.
func (e *End) wasRefusedForks() (refused bool) {
	readLog(func(text string) {
		if path, ok := strings.CutPrefix(text, "cgroup: fork rejected by pids controller in "); ok {
			refused = refused || inside(path, e.cgroup())
		}
	})
	return refused
}

// inside tells whether a path is that of a cgroup named so, or of one in it.
func inside(path, cgroup string) bool {
	return cgroup != "" && strings.Contains(path+"/", "/"+cgroup+"/")
}
