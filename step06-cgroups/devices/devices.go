//go:build linux

// Package devices says which devices the processes of a cgroup may use.
//
// A device node is a kind of file, a type and two numbers. A process that opens a node with the numbers of the machine's
// disk has the disk. Root in a container may make nodes (CAP_MKNOD). So a cgroup has a list of those that may be opened:
// with v2 a program decides, which is loaded into the kernel: see program.go. With v1 two files take the rules.
//
//	err := devices.Guard(cg, append([]specs.LinuxDeviceCgroup{devices.DenyAll}, devices.Defaults()...))
//
// A device that is open already stays open: so guard a cgroup before a process is in it.
//
// See "Device controller" in the kernel's cgroup-v2.rst, and https://docs.kernel.org/admin-guide/cgroup-v1/devices.html.
package devices

import (
	"cmp"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step06-cgroups/cgroups"
)

// DenyAll is the rule that a list begins with: what follows allows some.
var DenyAll = specs.LinuxDeviceCgroup{Allow: false, Access: "rwm"}

// Defaults may be used by all containers that have a list: nodes without a device behind them, terminals of the
// container's own, and to make (m) any node, which is not to open it. docker allows the host's console (5:1) too.
func Defaults() []specs.LinuxDeviceCgroup {
	rule := func(kind string, major, minor int64, access string) specs.LinuxDeviceCgroup {
		return specs.LinuxDeviceCgroup{Allow: true, Type: kind, Major: &major, Minor: &minor, Access: access}
	}
	return []specs.LinuxDeviceCgroup{
		rule("c", -1, -1, "m"), rule("b", -1, -1, "m"),
		rule("c", 1, 3, "rwm"), rule("c", 1, 5, "rwm"), rule("c", 1, 7, "rwm"), // null, zero, full
		rule("c", 1, 8, "rwm"), rule("c", 1, 9, "rwm"), // random, urandom
		rule("c", 5, 0, "rwm"), rule("c", 5, 2, "rwm"), rule("c", 136, -1, "rwm"), // tty, ptmx, pts
	}
}

// Guard lets the processes of a cgroup, and of those inside, use devices as the rules say. A later rule wins.
func Guard(cg cgroups.Cgroup, rules []specs.LinuxDeviceCgroup) error {
	controller := cg.Word("", "devices")
	if controller == "" { // v2 has none
		return attach(cg.Folders()[0], program(rules))
	}
	if err := cg.Enable(controller); err != nil {
		return fmt.Errorf("limit devices: %w", err)
	}
	return cgroups.Set(cg, Settings(rules))
}

// Settings are the rules in the words of v1. A later one wins, but here the kernel lets only that be denied that
// was allowed by the same numbers.
func Settings(rules []specs.LinuxDeviceCgroup) (settings []cgroups.Setting) {
	for _, r := range rules {
		file := "devices.deny"
		if r.Allow {
			file = "devices.allow"
		}
		settings = append(settings, cgroups.Setting{Limit: "devices", V1File: file, V1Value: Line(r)})
	}
	return settings
}

// Line is a rule as v1's files have it, and as people write it: "c 1:3 rwm".
func Line(r specs.LinuxDeviceCgroup) string {
	return fmt.Sprintf("%s %s:%s %s", cmp.Or(r.Type, "a"), number(r.Major), number(r.Minor), r.Access)
}

// isAny tells whether a rule is for all numbers.
func isAny(n *int64) bool { return n == nil || *n < 0 }

func number(n *int64) string {
	if isAny(n) {
		return "*"
	}
	return fmt.Sprint(*n)
}
