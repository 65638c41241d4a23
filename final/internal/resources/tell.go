//go:build linux

package resources

import (
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step04-overlay/story"
	"gocker/step06-cgroups/cgroupbyhand"
	"gocker/step06-cgroups/cgroups"
	"gocker/step06-cgroups/devices"
)

// Tell tells by which commands Set has done its work.
func Tell(tell story.Story, cg cgroups.Cgroup, r *specs.LinuxResources) {
	if tell == nil {
		return
	}
	if wantsCpuset(r) {
		for _, file := range strings.Fields(cg.Word("", "cpuset.cpus cpuset.mems")) {
			value, _ := os.ReadFile(cg.Path(file)) // it was just written
			tell.Write(story.Host, "a new cpuset has nothing, and no process may be in it", cg.Path(file), strings.TrimSpace(string(value)))
		}
	}
	cgroupbyhand.Set(tell, cg, Settings(cg, r))
	if r.Devices != nil {
		cgroupbyhand.Guard(tell, cg, slices.Concat(r.Devices, devices.Defaults()))
	}
}
