//go:build linux

// Package runtime turns one specs.Spec into a running process, and takes away all of it again. It is the only path:
// whatever asks for a container describes it as a spec.
package runtime

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/resources"
	"gocker/step01-pull/shared/advice"
	"gocker/step04-overlay/overlay"
	"gocker/step04-overlay/story"
	"gocker/step05-namespaces/namespaces"
	"gocker/step06-cgroups/cgroups"
	"gocker/step06-cgroups/told"
)

// A Container is set up and waits for its start, or runs.
type Container struct {
	*namespaces.Process
	Cgroup cgroups.Cgroup
	fs     *overlay.FS
	tell   story.Story
}

// Create makes cgroup, namespaces and root of the container whose file system is mounted at f, up to the point before
// its command is executed. If it fails, nothing but f is left.
func Create(f *overlay.FS, spec *specs.Spec, stdio namespaces.Stdio, tell story.Story) (*Container, error) {
	path := cmp.Or(spec.Linux.CgroupsPath, "gocker-"+f.ID)
	c := &Container{fs: f, tell: tell}
	p, err := namespaces.Create(spec, stdio, namespaces.Tell(tell), c.cgroup(f, path, spec.Linux.Resources))
	if err == nil {
		if !hasOwnPids(spec) {
			go endAll(p, c.Cgroup)
		}
		c.Process = p
		return c, nil
	}
	err = fmt.Errorf("container %s: %w", f.ID, err)
	if errors.Is(err, unix.EAGAIN) {
		err = adviseOnForks(err, c.Cgroup)
	}
	if c.Cgroup != nil {
		err = errors.Join(err, c.Remove())
	}
	return nil, err
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
	told.Remove(c.tell, c.Cgroup)
	return cgroups.RemoveRecorded(c.fs)
}
