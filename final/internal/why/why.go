//go:build linux

// Package why finds out why a container ended.
//
// What the kernel says of an end is a status of eight bits or the number of a signal, and to the process that something
// was "not permitted". What happened is known elsewhere, and mostly not for long:
//
//	which limit, and the most that was used    files of its cgroup, until that is removed
//	the process killed for want of memory      the kernel's log, /dev/kmsg
//	where a process broke down                 the same
//	which system calls were denied             the process that answers the filter's questions
//	the sender of a signal                     nothing, if it was not gocker
//
// So the gocker that runs a container calls Look at its end, and keeps the End with its state. Explain puts it into words.
package why

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/docker/go-units"
	docker "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/resources"
	"gocker/final/internal/runtime"
	"gocker/final/internal/signame"
)

// An End is what has to be noted when a container ends.
type End struct {
	Signal   syscall.Signal   // that ended its first process, 0 if that ended by itself
	Sent     []Sent           `json:",omitempty"` // by gocker
	Killed   []Victim         `json:",omitempty"` // for want of memory
	Broke    string           `json:",omitempty"` // what the kernel's log says of the first process: "segfault at 0 ip …"
	Memory   string           `json:",omitempty"` // the file that had the memory limit
	Above    *resources.Limit `json:",omitempty"` // of memory, in a cgroup above: the one that was or would be reached first
	Forks    *resources.Limit `json:",omitempty"` // of processes, in a cgroup above, that was reached
	Denied   []runtime.Denial `json:",omitempty"`
	Script   string           `json:",omitempty"` // the first line of its command, if something was not found
	Orphaned bool             `json:",omitempty"` // its gocker was killed
	Rebooted bool             `json:",omitempty"` // it ran when the machine stopped
	Advice   string           `json:",omitempty"` // to the error of its start
}

// Sent is a signal that gocker sent to the first process.
type Sent struct {
	Time   time.Time
	Signal string // "SIGTERM"
	By     string // "gocker stop"
}

// A Victim is a process that the kernel killed for want of memory.
type Victim struct {
	Pid    int // as the host counts
	Name   string
	First  bool   // it was the container's first process
	Cgroup string // whose limit was reached, "" if the machine had no memory left
}

// cgroup is the name of the container's cgroup.
func (e End) cgroup() string { return filepath.Base(filepath.Dir(e.Memory)) }

// Look notes what is known when a container's first process has ended, and its cgroup is still there.
func Look(c *runtime.Container, usage resources.Stats) End {
	cg := c.Cgroup
	e := End{Signal: c.EndedBy(), Denied: c.Denied(), Script: c.Script(), Memory: cg.Path(cg.Word("memory.max", "memory.limit_in_bytes"))}
	if usage.OOMKills > 0 || e.Signal != 0 {
		e.lookInLog(c.Pid)
	}
	if usage.OOMKills > 0 {
		e.Above = least(resources.LimitsOf(cg, "memory"), e.above)
	}
	e.lookAtForks(resources.LimitsOf(cg, "pids"), usage.PidsMax > 0)
	return e
}

// above tells whether a limit is not the container's own.
func (e *End) above(l resources.Limit) bool { return !inside(l.Dir, e.cgroup()) }

// least is the limit that has the least left, of those that are wanted.
func least(limits []resources.Limit, wanted func(resources.Limit) bool) (found *resources.Limit) {
	for _, l := range limits {
		if wanted(l) && (found == nil || l.Left < found.Left) {
			found = &l
		}
	}
	return found
}

// lookAtForks finds out whether a limit of processes was reached that stands above. counted says that the container's cgroup
// has counted one that was refused.
func (e *End) lookAtForks(limits []resources.Limit, counted bool) {
	all := func(resources.Limit) bool { return true }
	first := least(limits, all)
	if first == nil {
		return
	}
	if _, known := first.RefusedForks(); !known {
		if counted && e.above(*first) {
			e.Forks = first
		}
		return
	}
	// A refusal is counted where the limit stands. Only the kernel's log says whose process it was.
	above := least(limits, func(l resources.Limit) bool {
		refused, _ := l.RefusedForks()
		return refused && e.above(l)
	})
	if !counted && above != nil && e.wasRefusedForks() {
		e.Forks = above
	}
}

// A Case is all that is known of a container.
type Case struct {
	Name      string
	Status    specs.ContainerState
	Created   time.Time
	Started   time.Time
	Finished  time.Time
	ExitCode  int
	Error     string
	Process   *specs.Process
	Resources *specs.LinuxResources
	Usage     resources.Stats
	End       End
	Wrote     []string // the last lines of its standard error
	Probe     []string // the command of its health check
	Health    *docker.Health
}

// An Answer is for people: the verdict in one sentence, and what else is to be known.
type Answer struct {
	Verdict string
	Reasons []Reason
	Wrote   []string // the last lines of its standard error
	Asked   []string // those of its health check, if it is unhealthy
}

// A Reason is something that happened, and what to do about it.
type Reason struct{ What, Advice string }

// Explain tells what happened.
func (c Case) Explain() Answer {
	a := Answer{Verdict: c.Name + " " + c.verdict(), Asked: c.asked()}
	for _, reasons := range [][]Reason{c.start(), c.health(), c.memory(), c.signal(), c.processes(), c.denied(), c.script(), c.status()} {
		a.Reasons = append(a.Reasons, reasons...)
	}
	if c.ExitCode != 0 {
		a.Wrote = c.Wrote
	}
	return a
}

func (c Case) runs() bool { return c.Status == specs.StateRunning || c.Status == "paused" }

// verdict is what comes behind the container's name.
func (c Case) verdict() string {
	switch {
	case c.Status == specs.StateCreated && c.Error != "":
		return "did not start: " + c.Error
	case c.Status == specs.StateCreated:
		return "has not been started"
	case c.runs():
		runs := fmt.Sprintf("has been running for %s", units.HumanDuration(time.Since(c.Started)))
		if c.failedProbe() != nil {
			runs += ", and is unhealthy"
		}
		return runs
	}
	ended := fmt.Sprintf("ended with status %d", c.ExitCode)
	if c.Started.IsZero() {
		return "did not start: " + c.Error
	}
	switch {
	case c.End.Orphaned:
		return "was killed with the gocker that ran it"
	case c.End.Rebooted:
		return "ended with the machine, which has started anew since"
	case c.killedFirst():
		return ended + ": killed by " + c.whoseLimit(c.victims(true))
	case c.End.Signal != 0 && c.lastSent(c.End.Signal) != nil:
		return fmt.Sprintf("%s: killed by %s, which %s sent", ended, signame.Of(c.End.Signal), c.lastSent(c.End.Signal).By)
	case c.End.Signal == unix.SIGKILL && c.cpuLimit() > 0:
		return ended + ": killed by its limit of processor time"
	case c.End.Signal == unix.SIGSYS:
		return ended + ": killed by the seccomp filter"
	case slices.Contains(faults, c.End.Signal):
		return fmt.Sprintf("%s: its first process broke down, %s (%s)", ended, signame.Of(c.End.Signal), c.End.Signal)
	case c.End.Signal != 0:
		return fmt.Sprintf("%s: killed by a signal from outside, %s", ended, signame.Of(c.End.Signal))
	case c.OOM():
		return ended + ", after a process in it was killed by " + c.whoseLimit(c.End.Killed)
	case len(c.End.Sent) > 0:
		last := c.End.Sent[len(c.End.Sent)-1]
		return fmt.Sprintf("%s, after %s sent %s", ended, last.By, last.Signal)
	case c.ExitCode != 0 && c.End.Forks != nil:
		return fmt.Sprintf("%s, after the limit of processes of a cgroup above, %s, was reached", ended, c.End.Forks.Dir)
	case c.ExitCode != 0 && c.Usage.PidsMax > 0:
		return ended + ", after the limit of processes was reached"
	case c.ExitCode != 0 && len(c.End.Denied) > 0:
		return ended + ", after the seccomp filter denied a system call"
	case c.ExitCode > 128 && signame.Of(syscall.Signal(c.ExitCode-128)) != "":
		return fmt.Sprintf("%s: its first process says so of one that %s ended", ended, signame.Of(syscall.Signal(c.ExitCode-128)))
	}
	return ended + ", by itself"
}

// start is for what did not start.
func (c Case) start() []Reason {
	switch {
	case c.Error != "" && c.End.Advice != "":
		return []Reason{{"", c.End.Advice}}
	case c.Status == specs.StateCreated && c.Error == "":
		return []Reason{{"", "start it: gocker start " + c.Name}}
	case c.End.Rebooted:
		return []Reason{{"nobody knows how it ended", "to have it started at each boot: a restart policy, and gocker system boot"}}
	case c.End.Orphaned:
		return []Reason{{"a container dies with the process that holds its output and its status: gocker run, or the monitor of run -d",
			"look at dmesg: was that process killed, or was the machine short of memory? nothing starts the container again: gocker start does"}}
	}
	return nil
}

// OOM tells whether a process was killed for want of memory.
func (c Case) OOM() bool { return c.Usage.OOMKills > 0 || len(c.End.Killed) > 0 }

// killedFirst tells whether the first process was. If the kernel's log cannot be read, only that it was killed is known.
func (c Case) killedFirst() bool {
	if len(c.End.Killed) > 0 {
		return len(c.victims(true)) > 0
	}
	return c.End.Signal == unix.SIGKILL && c.Usage.OOMKills > 0 && len(c.End.Sent) == 0
}

func (c Case) victims(first bool) (victims []Victim) {
	for _, v := range c.End.Killed {
		if v.First == first {
			victims = append(victims, v)
		}
	}
	return victims
}

func (c Case) limit() int64 {
	if c.Resources == nil || c.Resources.Memory == nil || c.Resources.Memory.Limit == nil {
		return 0
	}
	return *c.Resources.Memory.Limit
}

// whoseLimit says which memory there was too little of, for the first victim.
func (c Case) whoseLimit(victims []Victim) string {
	above := c.memoryAbove(victims)
	switch {
	case above != "":
		return fmt.Sprintf("the memory limit of a cgroup above, %s", above)
	case len(victims) == 0 && c.limit() > 0 || len(victims) > 0 && victims[0].Cgroup != "":
		return "the memory limit"
	}
	return "the kernel, as the machine had no memory left"
}

// memoryAbove is the cgroup above whose limit was reached, "" if it was the container's own, or none. The kernel's log says so
// of each victim; without it, that the container's own was never reached.
func (c Case) memoryAbove(victims []Victim) string {
	switch {
	case len(victims) > 0 && inside(victims[0].Cgroup, c.End.cgroup()):
		return ""
	case len(victims) > 0:
		return victims[0].Cgroup
	case c.End.Above == nil || c.limit() > 0 && c.Usage.MemoryMax > 0:
		return ""
	}
	return c.End.Above.Dir
}

func (c Case) memory() []Reason {
	if !c.OOM() {
		return nil
	}
	r := Reason{Advice: "give it more (--memory), or have it use less: many programs size their caches by the machine's memory, not by the limit"}
	peak := units.BytesSize(float64(c.Usage.MemoryPeak))
	if limit := c.limit(); limit > 0 {
		r.What = fmt.Sprintf("its limit is %s (--memory; %s), and the most it used %s", units.BytesSize(float64(limit)), filepath.Base(c.End.Memory), peak)
	} else {
		r = Reason{fmt.Sprintf("it has no limit of its own, and the most it used is %s", peak), "give limits (--memory) to those that take too much"}
	}
	if above := c.End.Above; above != nil && c.memoryAbove(c.End.Killed) != "" {
		r.What += fmt.Sprintf("; %s has a limit of %s for all that is in it", above.Dir, units.BytesSize(float64(above.Value)))
		r.Advice = "raise the limit there, or run less in that cgroup; " + r.Advice
	}
	if c.Usage.MemoryPeak == 0 {
		r.What = strings.Replace(r.What, "0B", "is not counted by this kernel", 1)
	}
	reasons := []Reason{r}
	for _, v := range c.End.Killed {
		what := fmt.Sprintf("the kernel killed %s, process %d of the host", v.Name, v.Pid)
		if v.First {
			what += ", which was its first process"
		}
		reasons = append(reasons, Reason{What: what})
	}
	if more := int(c.Usage.OOMKills) - len(c.End.Killed); more > 0 && len(c.End.Killed) > 0 {
		reasons = append(reasons, Reason{What: fmt.Sprintf("and %d more", more)})
	} else if more > 0 {
		reasons = append(reasons, Reason{What: fmt.Sprintf("the kernel killed %d processes; its log, which would name them, cannot be read, or does not have it any more", more)})
	}
	return reasons
}

// faults are the signals by which the kernel says that a process did something impossible.
var faults = []syscall.Signal{unix.SIGSEGV, unix.SIGBUS, unix.SIGILL, unix.SIGFPE, unix.SIGTRAP, unix.SIGABRT, unix.SIGSYS}

func (c Case) lastSent(sig syscall.Signal) *Sent {
	for i := len(c.End.Sent) - 1; i >= 0; i-- {
		if c.End.Sent[i].Signal == signame.Of(sig) {
			return &c.End.Sent[i]
		}
	}
	return nil
}

// cpuLimit is how many seconds of processor time a process may use, if the container used so much.
func (c Case) cpuLimit() uint64 {
	for _, limit := range c.Process.Rlimits {
		if limit.Type == "RLIMIT_CPU" && c.Usage.CPU >= time.Duration(limit.Hard)*time.Second {
			return limit.Hard
		}
	}
	return 0
}

func (c Case) signal() (reasons []Reason) {
	for _, s := range c.End.Sent {
		reasons = append(reasons, Reason{What: fmt.Sprintf("%s  %s sent %s", s.Time.Format(time.TimeOnly), s.By, s.Signal)})
	}
	if n := len(c.End.Sent); n > 1 && c.End.Signal == unix.SIGKILL && c.End.Sent[n-1].Signal == "SIGKILL" {
		reasons[n-1].Advice = fmt.Sprintf("it did not end by %s: a first process gets only signals that it has a handler for; give it one, or run it with --init", c.End.Sent[n-2].Signal)
	}
	switch {
	case c.End.Signal == 0 || c.killedFirst() || c.End.Orphaned || c.End.Rebooted || c.lastSent(c.End.Signal) != nil:
	case c.End.Signal == unix.SIGSYS:
		reasons = append(reasons, Reason{cmp.Or(c.End.Broke, "the kernel's log, which would name the system call, cannot be read, or does not have it any more"),
			"a 32-bit program makes calls that no filter of names can look at; --security-opt seccomp=unconfined runs it anyway"})
	case slices.Contains(faults, c.End.Signal):
		reasons = append(reasons, Reason{c.End.Broke, "that is a fault of the program; for a core file: --ulimit core=-1, and see core(5)"})
	case c.End.Signal == unix.SIGKILL && c.cpuLimit() > 0:
		reasons = append(reasons, Reason{fmt.Sprintf("it used %s of processor time, and --ulimit cpu=%d allows no more", c.Usage.CPU.Round(time.Millisecond), c.cpuLimit()), "raise that limit"})
	default:
		reasons = append(reasons, Reason{"gocker did not send it, no limit was reached, and no process inside can do that to the first one",
			"look for the sender on the host: kill(1), a supervisor, systemd-oomd or earlyoom; the kernel does not record senders"})
	}
	return reasons
}

func (c Case) processes() []Reason {
	if c.Usage.PidsMax == 0 && c.End.Forks == nil {
		return nil
	}
	r := Reason{"it could not make one more process or thread (EAGAIN, \"Resource temporarily unavailable\")", "allow more: --pids-limit"}
	if c.Usage.PidsMax > 1 {
		r.What += fmt.Sprintf(", %d times", c.Usage.PidsMax)
	}
	r.What += ": "
	switch {
	case c.End.Forks != nil:
		r.What += fmt.Sprintf("%s, a cgroup above, has a limit of %d for all that is in it (pids.max)", c.End.Forks.Dir, c.End.Forks.Value)
		r.Advice = "raise it there, or run less in that cgroup"
	case c.Resources != nil && c.Resources.Pids != nil && c.Resources.Pids.Limit != nil && *c.Resources.Pids.Limit > 0:
		r.What += fmt.Sprintf("its limit is %d (--pids-limit; pids.max)", *c.Resources.Pids.Limit)
	default:
		r.What += "a cgroup above has a limit"
		r.Advice = "raise pids.max there"
	}
	return []Reason{r}
}

func (c Case) denied() (reasons []Reason) {
	for i, d := range c.End.Denied {
		times := ""
		if d.Times > 1 {
			times = fmt.Sprintf(", %d times", d.Times)
		}
		r := Reason{What: fmt.Sprintf("the seccomp filter denied %s(%#x, …) to %s (process %d in there) with %s%s", d.Call, d.First, d.Process, d.Pid, d.Errno, times)}
		switch {
		case d.Call == "seccomp" && d.Errno == "EBUSY":
			r.Advice = "it wanted to listen to a filter of its own, and gocker listens to the container's, of which the kernel allows one: gocker run --security-opt no-listener …"
		case i == len(c.End.Denied)-1:
			r.Advice = "many programs can do without it; if this one cannot: --cap-add if a capability allows the call, --security-opt seccomp=FILE for another filter, seccomp=unconfined for none"
		}
		reasons = append(reasons, r)
	}
	return reasons
}

// script is for "#!/usr/bin/env bash\r" and its like: env is found, and what it should find is not.
func (c Case) script() []Reason {
	if c.End.Script == "" {
		return nil
	}
	r := Reason{What: fmt.Sprintf("its command is a script, and begins with %q", c.End.Script)}
	switch words := strings.Fields(c.End.Script); {
	case strings.HasSuffix(c.End.Script, "\r"):
		r.What += ": it ends with CR LF, as lines on Windows do, and the CR counts as a part of it"
		r.Advice = `take the CRs away: sed -i 's/\r$//' FILE (and in .gitattributes: *.sh text eol=lf)`
	case len(words) > 1:
		r.Advice = fmt.Sprintf("is there a %q in the image, in its PATH?", words[len(words)-1])
	}
	return []Reason{r}
}

// status says what some exit statuses mean, if nothing better is known.
func (c Case) status() []Reason {
	if c.Status != specs.StateStopped || c.End.Signal != 0 || c.OOM() || c.Started.IsZero() {
		return nil
	}
	switch c.ExitCode {
	case 126:
		return []Reason{{"shells, env(1) and xargs(1) end with 126 if they find a command, but cannot execute it", "look at its output"}}
	case 127:
		return []Reason{{"shells, env(1) and xargs(1) end with 127 if they do not find a command", "look at its output"}}
	}
	return nil
}
