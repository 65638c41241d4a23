//go:build linux

package runtime

import (
	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step04-overlay/check"
	"gocker/step04-overlay/overlay"
	"gocker/step05-namespaces/birth"
	"gocker/step05-namespaces/namespaces"
	"gocker/step06-cgroups/cgroups"
)

// cgroup is the part that makes the container's cgroup: while the namespaces are made, on another thread.
func (c *Container) cgroup(f *overlay.FS, path string, resources *specs.LinuxResources) namespaces.Part {
	if resources == nil {
		resources = &specs.LinuxResources{}
	}
	var into, tells namespaces.Part
	made := func() error { return nil }
	return namespaces.Part{
		Outside: func() error {
			wait := check.Elsewhere(func() (any, error) {
				cg, err := cgroups.NewFor(f, path, resources, c.tell)
				if err != nil {
					return nil, err
				}
				c.Cgroup = cg
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
			tells = cgroups.TellInto(c.Cgroup, c.tell)
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
		Done: func() {
			if made() == nil && into.Done != nil {
				into.Done()
			}
		},
	}
}
