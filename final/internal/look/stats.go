//go:build linux

package look

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/containers"
	"gocker/final/internal/resources"
	"gocker/step06-cgroups/cgroups"
)

// A Usage is what a container uses at a moment, and has used so far.
type Usage struct {
	containers.State
	resources.Stats           // the limit of memory is the machine's memory where there is none
	Received, Sent  uint64    // bytes, by all network devices of its own, loopback excepted
	At              time.Time // when it was read
}

// Stats reads what a container uses. A container that does not run uses nothing.
func (look Look) Stats(name string) (Usage, error) {
	s, err := look.Containers.Find(name)
	if err != nil {
		return Usage{}, err
	}
	u := Usage{State: s, At: time.Now()}
	if s.Status != specs.StateRunning {
		return u, nil
	}
	cg, err := cgroups.OpenRecorded(look.Containers.Dirs.Container(s.ID))
	if errors.Is(err, os.ErrNotExist) { // it is gone by now
		return u, nil
	}
	if err != nil {
		return u, err
	}
	if cg == cgroups.Nowhere { // nothing is counted, and 0 would not be true
		return u, fmt.Errorf("stats %s: %w", name, cg.Enable(cgroups.Controllers...))
	}
	u.Stats = resources.ReadStats(cg)
	var machine unix.Sysinfo_t
	if err := unix.Sysinfo(&machine); err == nil {
		if total := machine.Totalram * uint64(machine.Unit); u.MemoryLimit == 0 || u.MemoryLimit > total {
			u.MemoryLimit = total
		}
	}
	u.Received, u.Sent = networkBytes(s.Pid)
	return u, nil
}

// networkBytes adds up what the devices in the network namespace of a process have counted: see proc_pid_net(5). With
// the host's namespace it is nothing of the container's own.
func networkBytes(pid int) (received, sent uint64) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	theirs, err := os.Readlink(dir + "ns/net")
	if ours, _ := os.Readlink("/proc/self/ns/net"); err != nil || theirs == ours {
		return 0, 0
	}
	raw, _ := os.ReadFile(dir + "net/dev")
	for line := range strings.Lines(string(raw)) {
		device, numbers, isDevice := strings.Cut(line, ":")
		fields := strings.Fields(numbers)
		if !isDevice || len(fields) < 9 || strings.TrimSpace(device) == "lo" {
			continue
		}
		in, _ := strconv.ParseUint(fields[0], 10, 64)
		out, _ := strconv.ParseUint(fields[8], 10, 64)
		received, sent = received+in, sent+out
	}
	return received, sent
}
