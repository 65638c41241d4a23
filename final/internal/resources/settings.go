//go:build linux

package resources

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step03-layers/usernamespace"
	"gocker/step06-cgroups/cgroups"
	"gocker/step06-cgroups/devices"
)

// Set gives a cgroup all its limits, before a process is in there.
func Set(cg cgroups.Cgroup, r *specs.LinuxResources) error {
	cg.Enable(cg.Word("io", "blkio")) // it counts; where it is not to be had, a limit finds no file
	if wantsCpuset(r) {
		if err := enableCpuset(cg); err != nil {
			return fmt.Errorf("limit cpuset: %w", err)
		}
	}
	if err := cgroups.Set(cg, Settings(cg, r)); err != nil || r.Devices == nil || usernamespace.Inside() { // whose root has no devices but those that the host lends
		return err
	}
	return devices.Guard(cg, slices.Concat(r.Devices, devices.Defaults()))
}

// Update writes limits anew, while processes run. A limit that resources do not name stays as it is, and the rules for devices
// always do.
func Update(cg cgroups.Cgroup, r *specs.LinuxResources) error {
	if wantsCpuset(r) {
		err := notRemoved(cg, "cpuset", enableCpuset(cg))
		if err == nil {
			err = move(cg, "cpuset")
		}
		if err != nil {
			return fmt.Errorf("limit cpuset: %w", err)
		}
	}
	if r.BlockIO != nil {
		cg.Enable(cg.Word("io", "blkio"))
	}
	settings := Settings(cg, r)
	err := cgroups.Set(cg, settings)
	if err != nil { // with v1 memory is at no moment more than memory and swap: so raise the latter first
		slices.Reverse(settings)
		err = cgroups.Set(cg, settings)
	}
	return err
}

// Settings are the limits of step 6 and those of this package.
func Settings(cg cgroups.Cgroup, r *specs.LinuxResources) []cgroups.Setting {
	settings := cgroups.Settings(r)
	same := func(limit, file, value string) {
		settings = append(settings, cgroups.Setting{Limit: limit, V2File: file, V2Value: value, V1File: file, V1Value: value})
	}
	if m := r.Memory; m != nil && m.Reservation != nil {
		settings = append(settings, cgroups.Setting{Limit: "memory reservation",
			V2File: "memory.low", V2Value: cgroups.Max(m.Reservation),
			V1File: "memory.soft_limit_in_bytes", V1Value: fmt.Sprint(*m.Reservation)})
	}
	if c := r.CPU; c != nil {
		if c.Shares != nil && *c.Shares != 0 {
			settings = append(settings, cgroups.Setting{Limit: "CPU shares",
				V2File: "cpu.weight", V2Value: fmt.Sprint(weight(*c.Shares)),
				V1File: "cpu.shares", V1Value: fmt.Sprint(*c.Shares)})
		}
		same("cpuset of processors", "cpuset.cpus", c.Cpus)
		same("cpuset of memory nodes", "cpuset.mems", c.Mems)
	}
	return append(settings, disks(cg, r.BlockIO)...)
}

// disks are the limits of disks.
func disks(cg cgroups.Cgroup, b *specs.LinuxBlockIO) (settings []cgroups.Setting) {
	if b == nil {
		return nil
	}
	if b.Weight != nil {
		// With v2 two programs of the kernel can deal out a disk, and each has its file: of 1 to 1000, or of 1 to 10000.
		file, value := "io.bfq.weight", int(*b.Weight)
		if _, err := os.Stat(cg.Path(file)); err != nil {
			file, value = "io.weight", 1+(value-10)*9999/990
		}
		settings = append(settings, cgroups.Setting{Limit: "block IO weight",
			V2File: file, V2Value: fmt.Sprint(value), V1File: "blkio.bfq.weight", V1Value: fmt.Sprint(*b.Weight)})
	}
	for _, rate := range []struct {
		limit, v2Key, v1File string
		devices              []specs.LinuxThrottleDevice
	}{
		{"bytes read a second", "rbps", "read_bps_device", b.ThrottleReadBpsDevice},
		{"bytes written a second", "wbps", "write_bps_device", b.ThrottleWriteBpsDevice},
		{"reads a second", "riops", "read_iops_device", b.ThrottleReadIOPSDevice},
		{"writes a second", "wiops", "write_iops_device", b.ThrottleWriteIOPSDevice},
	} {
		for _, d := range rate.devices {
			settings = append(settings, cgroups.Setting{Limit: rate.limit,
				V2File: "io.max", V2Value: fmt.Sprintf("%d:%d %s=%d", d.Major, d.Minor, rate.v2Key, d.Rate),
				V1File: "blkio.throttle." + rate.v1File, V1Value: fmt.Sprintf("%d:%d %d", d.Major, d.Minor, d.Rate)})
		}
	}
	return settings
}

// weight turns v1's shares, of 2 to 262144 and by default 1024, into v2's weight, of 1 to 10000 and by default 100. It is
// the curve through these three points that runc and crun have agreed on.
func weight(shares uint64) uint64 {
	l := math.Log2(float64(min(max(shares, 2), 262144)))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}

func wantsCpuset(r *specs.LinuxResources) bool {
	return r.CPU != nil && cmp.Or(r.CPU.Cpus, r.CPU.Mems) != ""
}

// enableCpuset gives a cgroup the files of this controller. With v1 a new cpuset has no processor, and no process may be
// in it, until it is given some.
func enableCpuset(cg cgroups.Cgroup) error {
	err := cg.Enable("cpuset")
	for _, file := range strings.Fields(cg.Word("", "cpuset.cpus cpuset.mems")) {
		if err == nil {
			err = inherit(cg.Path(file))
		}
	}
	return err
}

// inherit gives a file that is empty what that of the cgroup above has.
func inherit(file string) error {
	above := filepath.Join(filepath.Dir(filepath.Dir(file)), filepath.Base(file))
	if value, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(value)) != "" {
		return err
	}
	if err := inherit(above); err != nil {
		return err
	}
	value, err := os.ReadFile(above)
	if err != nil {
		return err
	}
	return os.WriteFile(file, value, 0)
}
