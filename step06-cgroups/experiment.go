//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step06-cgroups/cgroups"
	"gocker/step06-cgroups/counters"
	"gocker/step06-cgroups/devices"
	"gocker/step06-cgroups/limits"
)

// An experiment runs a command that wants more than it gets.
type experiment struct {
	controller string
	limits     limits.Limits
	command    string
	about      string
	time       time.Duration // how long the command may go on; 0: until it ends
}

var experiments = map[string]experiment{
	"memory": {"memory", limits.Limits{Memory: "32m"}, "tail /dev/zero",
		"tail keeps the last line of its input, and /dev/zero is one line without end", 0},
	"cpu": {"cpu", limits.Limits{CPUs: "0.1"}, "while :; do :; done",
		"a loop wants a whole processor, for 3 seconds", 3 * time.Second},
	"pids": {"pids", limits.Limits{Pids: 16}, "i=0; while [ $i -lt 100 ]; do sleep 60 & i=$((i+1)); done",
		"a loop starts a hundred processes", 0},
	"devices": {"devices", limits.Limits{}, "mknod /dev/log c 1 11 && echo made && head -n 1 /dev/log 2>&1",
		"mknod makes a node for the kernel's log, and head wants to read it", 0},
}

// shown are where the kernel counts what a limit has done, with v2 and with v1.
var shown = []struct{ controller, v2, v1 string }{
	{"memory", "memory.peak", "memory.max_usage_in_bytes"},
	{"memory", "memory.events oom_kill", "memory.oom_control oom_kill"},
	{"cpu", "cpu.stat nr_periods", "cpu.stat nr_periods"},
	{"cpu", "cpu.stat nr_throttled", "cpu.stat nr_throttled"},
	{"pids", "pids.events max", "pids.events max"},
}

// showSettings prints what the kernel's files say now.
func showSettings(stdout io.Writer, cg cgroups.Cgroup, settings []cgroups.Setting) {
	for _, s := range settings {
		file := cg.Word(s.V2File, s.V1File)
		content, err := os.ReadFile(cg.Path(file))
		if err != nil || cg.Word(s.V2Value, s.V1Value) == "" {
			continue // it is not limited, or this kernel does not have the file
		}
		fmt.Fprintf(stdout, "   %s: %s\n", file, strings.TrimSpace(string(content)))
	}
}

// showRules prints those that allow something.
func showRules(stdout io.Writer, rules []specs.LinuxDeviceCgroup) {
	var lines []string
	for _, r := range rules {
		if r.Allow {
			lines = append(lines, devices.Line(r))
		}
	}
	fmt.Fprintf(stdout, "   %s\n", strings.Join(lines, ", "))
}

// showCounters prints those of one controller, or all.
func showCounters(stdout io.Writer, cg cgroups.Cgroup, controller string) {
	for _, c := range shown {
		name := cg.Word(c.v2, c.v1)
		file, key, _ := strings.Cut(name, " ")
		if _, err := os.Stat(cg.Path(file)); err == nil && (controller == "" || controller == c.controller) {
			fmt.Fprintf(stdout, "   %s: %s\n", file, strings.TrimSpace(fmt.Sprint(key, " ", counters.Count(cg, c.v2, c.v1))))
		}
	}
}
