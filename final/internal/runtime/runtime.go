//go:build linux

// Package runtime turns one specs.Spec into a running process, and takes away all of it again. It is the only path:
// whatever asks for a container describes it as a spec.
package runtime

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/resources"
	"gocker/final/internal/whynot"
	"gocker/step01-pull/shared/advice"
	"gocker/step04-overlay/overlay"
	"gocker/step04-overlay/story"
	"gocker/step05-namespaces/namespaces"
	"gocker/step06-cgroups/cgroupbyhand"
	"gocker/step06-cgroups/cgroups"
)

// A Container is set up and waits for its start, or runs.
type Container struct {
	*namespaces.Process
	Cgroup cgroups.Cgroup

	denied denials
	status unix.WaitStatus // of its first process, once that has ended
	script string
	fs     *overlay.FS
	tell   story.Story
}

// Create makes cgroup, namespaces and root of the container whose file system is mounted at f, up to the point before
// its command is executed. If it fails, nothing but f is left.
func Create(f *overlay.FS, spec *specs.Spec, streams namespaces.Streams, tell story.Story, more ...namespaces.Part) (*Container, error) {
	c := &Container{fs: f, tell: tell}
	err := errors.Join(unsupported(spec), checkNamespaces(spec), checkUser(spec.Process.User), checkUsers(spec))
	seen := *spec
	if err == nil {
		seen.Mounts, err = hostIDs(spec)
	}
	if err == nil {
		c.Process, err = namespaces.Create(&seen, streams, append(c.parts(f, spec), more...)...)
	}
	if err == nil {
		if !hasOwnPids(spec) {
			go endAll(c.Process, c.Cgroup)
		}
		return c, nil
	}
	err = fmt.Errorf("container %s: %w", f.ID, err)
	if errors.Is(err, unix.EAGAIN) && advice.Of(err) == "" {
		err = adviseOnForks(err, c.Cgroup)
	}
	if c.Cgroup != nil {
		err = errors.Join(err, c.Remove())
	}
	return nil, err
}

// parts are what the container has beside step 5's. Their order is that of what they do at one moment.
func (c *Container) parts(f *overlay.FS, spec *specs.Spec) []namespaces.Part {
	starts, told := guarded()
	var user *os.File // its user namespace, if it has one
	parts := []namespaces.Part{
		tells(f, spec, c.tell),
		starts,
		c.cgroup(f, spec),
		users(spec, &user),
		binds(f, spec, &user),
		cgroupFileSystems(spec),
		devices(spec),
		domainName(spec),
		joined(spec),
		sysctls(spec), // before /proc/sys may be read-only
		covered(spec),
		underInit(spec.Process),
		c.end(spec.Process),
	}
	if pid := othersPids(spec); pid > 0 {
		pids := fmt.Sprintf("/proc/%d/ns/pid", pid)
		return slices.Concat(parts, process(spec, nil), []namespaces.Part{procOf(spec, pid), apart(pids, spec.Process, true), told})
	}
	return append(append(parts, process(spec, &c.denied)...), told)
}

// process are the parts of a container's first process, and of one more.
func process(spec *specs.Spec, denied *denials) []namespaces.Part {
	return []namespaces.Part{
		ownFile(),
		privileges(spec.Process),
		rlimits(spec.Process),
		whyNot(spec.Process, denied),
		filtered(spec.Linux.Seccomp, denied),
		user(spec.Process.User),
		oomScore(spec.Process),
	}
}

// Join starts the spec's process in a container that runs, in the cgroup cg. Its filter asks nobody: what it starts may
// outlive us.
func Join(pid int, spec *specs.Spec, streams namespaces.Streams, cg cgroups.Cgroup, tell story.Story, more ...namespaces.Part) (*namespaces.Process, error) {
	if err := errors.Join(checkUser(spec.Process.User), checkUsers(spec)); err != nil {
		return nil, err
	}
	parts := []namespaces.Part{tellsJoin(pid, spec, tell), cgroupbyhand.Into(tell, cg), cgroups.Into(cg), joinsUsers(pid, spec)}
	parts = append(parts, process(spec, nil)...)
	if mayBeLookedInto(spec) {
		parts = append(parts, apart(fmt.Sprintf("/proc/%d/ns/pid", pid), spec.Process, false))
	}
	return namespaces.Join(pid, spec.Process, streams, append(parts, more...)...)
}

// whyNot is the part that finds out why a command did not start.
func whyNot(process *specs.Process, denied *denials) namespaces.Part {
	return namespaces.Part{Failed: func(err error) error {
		if list := denied.soFar(); len(list) > 0 {
			return advice.Add(fmt.Errorf("%w: the seccomp filter denied %s", err, list[0].Call), "every command needs this call to begin: allow it in the profile")
		}
		return whynot.Started(process, err)
	}}
}

// end is the part that notes how the first process ended. It looks at a command that ended as if it was not found or not executed.
func (c *Container) end(process *specs.Process) namespaces.Part {
	return namespaces.Part{Ended: func(status unix.WaitStatus) {
		c.status = status
		if status.ExitStatus() == 126 || status.ExitStatus() == 127 {
			c.script = whynot.FirstLine(process)
		}
	}}
}

// EndedBy is the signal that ended the first process, 0 if it ended by itself. It waits for the end.
func (c *Container) EndedBy() unix.Signal {
	<-c.Ended()
	if c.status.Signaled() {
		return c.status.Signal()
	}
	return 0
}

// Script is the first line of the command, if that is a script which ended with the status for a command that was not
// found or not executed: after "#!/usr/bin/env bash\r" the kernel has found env. It waits for the end.
func (c *Container) Script() string {
	<-c.Ended()
	return c.script
}

// adviseOnForks says what may have refused the first process.
func adviseOnForks(err error, cg cgroups.Cgroup) error {
	where := "no more processes are allowed: by a cgroup (pids.max), to this user (ulimit -u), or at all (kernel.pid_max, kernel.threads-max)"
	if cg != nil {
		for _, l := range resources.LimitsOf(cg, "pids") {
			where += fmt.Sprintf("; %s has a limit of %d, and %d left", l.Dir, l.Value, l.Left)
		}
	}
	return advice.Add(err, "%s", where)
}

// hasOwnPids tells whether the first process is PID 1 of a pid namespace, with which the kernel ends all others in it.
func hasOwnPids(spec *specs.Spec) bool {
	return slices.ContainsFunc(spec.Linux.Namespaces, func(ns specs.LinuxNamespace) bool {
		return ns.Type == specs.PIDNamespace && ns.Path == ""
	})
}

// endAll does the same for a container that shares its pid namespace: when its first process has ended, the others that
// are in its cgroup would live on, and hold its output open.
func endAll(p *namespaces.Process, cg cgroups.Cgroup) {
	<-p.Ended()
	cgroups.Kill(cg)
}

// Remove removes the cgroup of a container that has ended. The file system is the caller's.
func (c *Container) Remove() error {
	cgroupbyhand.Remove(c.tell, c.Cgroup)
	return cgroups.RemoveRecorded(c.fs)
}
