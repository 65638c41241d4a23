//go:build linux

// Package runtime turns one specs.Spec into a running process, and takes away all of it again. It is the only path:
// whatever asks for a container describes it as a spec.
package runtime

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step04-overlay/overlay"
	"gocker/step05-namespaces/namespaces"
	"gocker/step06-cgroups/cgroups"
)

// A Container is set up and waits for its start, or runs.
type Container struct {
	*namespaces.Process
	Cgroup cgroups.Cgroup
}

// Create makes cgroup, namespaces and root of the container whose file system is mounted at f, up to the point before
// its command is executed. If it fails, nothing but f is left.
func Create(f *overlay.FS, spec *specs.Spec, stdio namespaces.Stdio) (*Container, error) {
	resources := spec.Linux.Resources
	if resources == nil {
		resources = &specs.LinuxResources{}
	}
	cg, err := cgroups.New(f.ID, resources)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", f.ID, err)
	}
	err = cgroups.Record(f, cg)
	var p *namespaces.Process
	if err == nil {
		p, err = namespaces.Create(spec, stdio, cg)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("container %s: %w", f.ID, err), cgroups.Remove(cg))
	}
	return &Container{Process: p, Cgroup: cg}, nil
}

// Run starts the container, calls started, waits for the end, and removes its cgroup. The file system is the caller's.
func (c *Container) Run(stdin *os.File, stdout io.Writer, started func()) (status int, err error) {
	status, err = c.Process.Run(stdin, stdout, started)
	return status, errors.Join(err, cgroups.Remove(c.Cgroup))
}
