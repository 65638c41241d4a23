//go:build linux

package resources

import (
	"os"
	"strconv"
	"strings"

	"gocker/step06-cgroups/cgroups"
	"gocker/step06-cgroups/counters"
)

// Stats is what the kernel counted.
type Stats struct {
	counters.Stats
	Read, Written uint64 // bytes, from and to block devices
}

// ReadStats reads what the processes of a cgroup use, and have used so far.
func ReadStats(cg cgroups.Cgroup) Stats {
	// Lines are "8:0 rbytes=4096 wbytes=0 rios=1 …", or "8:0 Read 4096".
	raw, _ := os.ReadFile(cg.Path(cg.Word("io.stat", "blkio.throttle.io_service_bytes_recursive")))
	return Stats{counters.Read(cg), sum(raw, cg.Word(" rbytes=", " Read ")), sum(raw, cg.Word(" wbytes=", " Write "))}
}

// sum adds up the numbers behind a word.
func sum(text []byte, word string) (sum uint64) {
	for _, part := range strings.Split(string(text), word)[1:] {
		digits := part[:len(part)-len(strings.TrimLeft(part, "0123456789"))]
		n, _ := strconv.ParseUint(digits, 10, 64)
		sum += n
	}
	return sum
}
