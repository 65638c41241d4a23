//go:build linux

package runtime

import (
	"errors"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// ErrUnsupported says that a spec wants something that this package does not do. Nothing is left out silently.
var ErrUnsupported = errors.New("not supported")

// unsupported names what a spec wants and would not get.
func unsupported(spec *specs.Spec) error {
	p, l := spec.Process, spec.Linux
	for _, what := range []struct {
		name   string
		wanted bool
	}{
		{"process.apparmorProfile", p.ApparmorProfile != ""},
		{"process.selinuxLabel", p.SelinuxLabel != ""},
		{"process.scheduler", p.Scheduler != nil},
		{"process.ioPriority", p.IOPriority != nil},
		{"process.execCPUAffinity", p.ExecCPUAffinity != nil},
		{"linux.mountLabel", l.MountLabel != ""},
		{"linux.uidMappings without gidMappings, or the other way round", (len(l.UIDMappings) > 0) != (len(l.GIDMappings) > 0)},
		{"linux.timeOffsets", len(l.TimeOffsets) > 0},
		{"linux.personality", l.Personality != nil},
		{"linux.intelRdt", l.IntelRdt != nil},
		{"linux.netDevices", len(l.NetDevices) > 0},
		{"linux.rootfsPropagation", l.RootfsPropagation != "" && l.RootfsPropagation != "private" && l.RootfsPropagation != "rprivate"},
	} {
		if what.wanted {
			return fmt.Errorf("%s: %w", what.name, ErrUnsupported)
		}
	}
	return nil
}
