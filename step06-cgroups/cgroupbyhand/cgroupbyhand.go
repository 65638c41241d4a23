//go:build linux

// Package cgroupbyhand tells the shell commands that make a cgroup of this step. Call each function when the work that it tells
// of is done: it looks at what is there now.
package cgroupbyhand

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step04-overlay/story"
	"gocker/step05-namespaces/birth"
	"gocker/step05-namespaces/namespaces"
	"gocker/step06-cgroups/cgroups"
	"gocker/step06-cgroups/devices"
)

// New is for cgroups.New.
func New(tell story.Story, cg cgroups.Cgroup) {
	if tell == nil {
		return
	}
	for _, path := range cgroups.Paths(cg) {
		tell.Run(story.Host, "a cgroup", "mkdir", "-p", path)
	}
	for _, path := range cg.Folders()[:min(1, len(cg.Folders()))] {
		controllers(tell, filepath.Dir(cg.Word(path, "")))
	}
}

// controllers tells of what the cgroups of v2 above have switched on, from the root down.
func controllers(tell story.Story, folder string) {
	file := filepath.Join(folder, "cgroup.subtree_control")
	on, err := os.ReadFile(file)
	if err != nil {
		return // above the root, or v1
	}
	controllers(tell, filepath.Dir(folder))
	if words := strings.Fields(string(on)); len(words) > 0 {
		tell.Write(story.Host, "the cgroups below have controllers", file, "+"+strings.Join(words, " +"))
	}
}

// Set is for cgroups.Set.
func Set(tell story.Story, cg cgroups.Cgroup, settings []cgroups.Setting) {
	if tell == nil {
		return
	}
	for _, s := range settings {
		path, value := cg.Path(cg.Word(s.V2File, s.V1File)), cg.Word(s.V2Value, s.V1Value)
		if _, err := os.Stat(path); err == nil && value != "" {
			tell.Write(story.Host, "limit "+s.Limit, path, value)
		}
	}
}

// Guard is for devices.Guard.
func Guard(tell story.Story, cg cgroups.Cgroup, rules []specs.LinuxDeviceCgroup) {
	if cg.Word("", "devices") == "" {
		tell.Sh(story.Host, "a program of the kernel says which devices may be opened",
			"# bpftool cgroup attach can do it, with a program that is loaded already; a shell cannot write one")
		return
	}
	Set(tell, cg, devices.Settings(rules))
}

// Into is the part that tells what that of cgroups.Into does.
func Into(tell story.Story, cg cgroups.Cgroup) namespaces.Part {
	if tell == nil {
		return namespaces.Part{}
	}
	var writes []string
	return namespaces.Part{
		Outside: func() error {
			for _, door := range cgroups.Doors(cg) {
				writes = append(writes, "echo 0 >"+story.Quote(door))
			}
			return nil
		},
		First: func(*birth.List) error {
			tell.Sh(story.Join, "the child enters its cgroup: 0 means the process that writes", strings.Join(writes, "\n"))
			return nil
		},
	}
}

// Remove is for cgroups.Remove, before it is called.
func Remove(tell story.Story, cg cgroups.Cgroup) {
	if tell != nil {
		tell.Run(story.After, "a cgroup without processes can be removed", append([]string{"rmdir"}, cgroups.Paths(cg)...)...)
	}
}
