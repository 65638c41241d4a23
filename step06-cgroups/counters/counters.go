//go:build linux

// Package counters reads what the kernel counts in a cgroup. The files are those of the controllers, in the words of v2 and of v1.
package counters

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"gocker/step06-cgroups/cgroups"
)

// Stats is what the kernel counted. A file that the kernel lacks leaves its number 0.
type Stats struct {
	Memory      uint64        // bytes in use, without those of files that were not read again
	MemoryPeak  uint64        // bytes, with all files
	MemoryLimit uint64        // bytes; where there is none, a number larger than any memory, or 0
	MemoryMax   uint64        // times that memory was at its own limit; v1 also counts those in which enough was found to give back
	OOMKills    uint64        // processes killed because memory was at its limit, or at that of a cgroup above
	CPU         time.Duration // of all processors together
	Throttled   uint64        // periods in which the processes had to wait, their share being used up
	Pids        uint64        // processes and threads
	PidsMax     uint64        // forks that failed because of the limit; with v1, and v2 before Linux 6.11, also of one above
}

// Read reads what the processes of a cgroup use, and have used so far.
func Read(cg cgroups.Cgroup) Stats {
	s := Stats{
		MemoryPeak:  Count(cg, "memory.peak", "memory.max_usage_in_bytes"), // v2's since Linux 5.19
		MemoryLimit: Count(cg, "memory.max", "memory.limit_in_bytes"),
		MemoryMax:   Count(cg, "memory.events.local oom", "memory.failcnt"),
		OOMKills:    OOMKills(cg),
		Throttled:   Count(cg, "cpu.stat nr_throttled", "cpu.stat nr_throttled"),
		Pids:        Count(cg, "pids.current", "pids.current"),
		PidsMax:     Count(cg, "pids.events max", "pids.events max"),
	}
	s.CPU, _ = time.ParseDuration(fmt.Sprint(Count(cg, "cpu.stat usage_usec", "cpuacct.usage"), cg.Word("us", "ns")))
	usage := Count(cg, "memory.current", "memory.usage_in_bytes")
	s.Memory = usage - min(usage, Count(cg, "memory.stat inactive_file", "memory.stat total_inactive_file"))
	return s
}

// OOMKills is that number of the Stats alone, which takes less time.
func OOMKills(cg cgroups.Cgroup) uint64 {
	return Count(cg, "memory.events oom_kill", "memory.oom_control oom_kill")
}

// Count reads a number of the kernel: "memory.peak" is all that is in the file, "memory.events oom_kill" is the number
// behind that word.
func Count(cg cgroups.Cgroup, v2, v1 string) uint64 {
	file, key, _ := strings.Cut(cg.Word(v2, v1), " ")
	return Number(cg.Path(file), key)
}

// Number reads a file that has one number, or, with a key, lines "key number". A file or key that is not there is 0, and so is "max".
func Number(file, key string) uint64 {
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		words := strings.Fields(line)
		if len(words) == 0 || key != "" && (len(words) < 2 || words[0] != key) {
			continue
		}
		n, _ := strconv.ParseUint(words[len(words)-1], 10, 64)
		return n
	}
	return 0
}
