//go:build linux

package runtime

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/final/internal/resources"
	"gocker/step03-layers/usernamespace"
	"gocker/step04-overlay/check"
	"gocker/step04-overlay/overlay"
	"gocker/step05-namespaces/birth"
	"gocker/step05-namespaces/namespaces"
	"gocker/step06-cgroups/cgroupbyhand"
	"gocker/step06-cgroups/cgroups"
)

// cgroup is the part that makes the container's cgroup: while the namespaces are made, on another thread.
func (c *Container) cgroup(f *overlay.FS, spec *specs.Spec) namespaces.Part {
	path, limits := cmp.Or(spec.Linux.CgroupsPath, "gocker-"+f.ID), spec.Linux.Resources
	if limits == nil {
		limits = &specs.LinuxResources{}
	}
	var into, tells namespaces.Part
	made := func() error { return nil }
	return namespaces.Part{
		Outside: func() error {
			wait := check.Elsewhere(func() (any, error) {
				cg, err := cgroups.New(f, path)
				isAsked := strings.Contains(path, "/") // for a place, which is no wish that may stay without effect
				if errors.Is(err, os.ErrPermission) && usernamespace.Inside() && !isAsked {
					if !hasOwnPids(spec) { // at its end nobody would know its processes
						return nil, fmt.Errorf("a container without a pid namespace of its own: %w", err)
					}
					cg, err = cgroups.Nowhere, cgroups.Record(f, cgroups.Nowhere) // a limit is an error then
				}
				if err != nil {
					return nil, err
				}
				c.Cgroup = cg
				if err := resources.Set(cg, limits); err != nil {
					return nil, err
				}
				into = cgroups.Into(cg)
				return nil, into.Outside()
			})
			made = func() error { _, err := wait(); return err }
			if c.tell == nil {
				return nil
			}
			if err := made(); err != nil { // what is told comes one after the other
				return err
			}
			cgroupbyhand.New(c.tell, c.Cgroup)
			resources.Tell(c.tell, c.Cgroup, limits)
			tells = cgroupbyhand.Into(c.tell, c.Cgroup)
			return tells.Outside()
		},
		First: func(list *birth.List) error {
			if err := made(); err != nil {
				return err
			}
			if tells.First != nil {
				tells.First(list)
			}
			return into.First(list)
		},
		Done: func(err error) {
			if made() == nil && into.Done != nil {
				into.Done(err)
			}
		},
	}
}
