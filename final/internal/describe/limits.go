//go:build linux

package describe

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/resources"
	"gocker/step01-pull/shared/advice"
	"gocker/step06-cgroups/devices"
)

// Limits are the flags of "run" that say what a container gets of the machine. Those of the first field can be changed
// while it runs.
type Limits struct {
	resources.Limits
	CgroupParent string   // the cgroup that its own is made in, from the root; "": that of the gocker that makes it
	OOMScoreAdj  int      // -1000 to 1000: when memory runs out, the kernel kills processes with high numbers first
	Devices      []string // HOST[:CONTAINER][:rwm]
	DeviceRules  []string // "c 189:* rwm"
}

// limit writes them into the description of container id. To a privileged one all devices are open.
func limit(spec *specs.Spec, id string, opts Limits, privileged bool) error {
	resources, err := opts.Resources()
	if err != nil {
		return err
	}
	spec.Linux.Resources = resources
	if opts.CgroupParent != "" {
		spec.Linux.CgroupsPath = filepath.Join("/", opts.CgroupParent, "gocker-"+id)
	}
	if opts.OOMScoreAdj < -1000 || opts.OOMScoreAdj > 1000 {
		return advice.Add(fmt.Errorf("--oom-score-adj %d: %w", opts.OOMScoreAdj, ErrOption), "it is from -1000 to 1000")
	}
	if opts.OOMScoreAdj != 0 {
		spec.Process.OOMScoreAdj = &opts.OOMScoreAdj
	}
	if !privileged {
		resources.Devices = []specs.LinuxDeviceCgroup{devices.DenyAll}
	}
	for _, rule := range opts.DeviceRules {
		r, err := parseDeviceRule(rule)
		if err != nil {
			return fmt.Errorf("--device-cgroup-rule %q: %w", rule, err)
		}
		if !privileged {
			resources.Devices = append(resources.Devices, r)
		}
	}
	for _, d := range opts.Devices {
		devices, access, err := parseDevice(d)
		if err != nil {
			return fmt.Errorf("--device %q: %w", d, err)
		}
		for _, device := range devices {
			spec.Linux.Devices = append(spec.Linux.Devices, device)
			if !privileged {
				resources.Devices = append(resources.Devices, specs.LinuxDeviceCgroup{
					Allow: true, Type: device.Type, Major: &device.Major, Minor: &device.Minor, Access: access,
				})
			}
		}
	}
	return nil
}

// parseDeviceRule reads TYPE MAJOR:MINOR rwm, with * for any number, as v1's devices.allow does.
func parseDeviceRule(s string) (r specs.LinuxDeviceCgroup, err error) {
	const form = "write TYPE MAJOR:MINOR rwm: a, b or c, and numbers or *, for example 'c 189:* rwm'"
	fields := strings.Fields(s)
	if len(fields) != 3 || !slices.Contains([]string{"a", "b", "c"}, fields[0]) || strings.Trim(fields[2], "rwm") != "" {
		return r, advice.Add(ErrOption, form)
	}
	r = specs.LinuxDeviceCgroup{Allow: true, Type: fields[0], Access: fields[2]}
	major, minor, _ := strings.Cut(fields[1], ":")
	for i, number := range []**int64{&r.Major, &r.Minor} {
		text := []string{major, minor}[i]
		if text == "*" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 0 {
			return r, advice.Add(ErrOption, form)
		}
		*number = &n
	}
	return r, nil
}

// parseDevice reads HOST[:CONTAINER][:rwm]. A folder is all devices in it, as docker has it.
func parseDevice(s string) (devices []specs.LinuxDevice, access string, err error) {
	const form = "write /dev/NAME[:/dev/NAME][:rwm]"
	parts := strings.Split(s, ":")
	access = "rwm"
	if last := parts[len(parts)-1]; len(parts) > 1 && last != "" && strings.Trim(last, "rwm") == "" {
		access, parts = last, parts[:len(parts)-1]
	}
	host := parts[0]
	inside := parts[len(parts)-1]
	if len(parts) > 2 || !filepath.IsAbs(host) || !filepath.IsAbs(inside) {
		return nil, "", advice.Add(ErrOption, form)
	}
	err = filepath.WalkDir(host, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		var stat unix.Stat_t // a link is what it leads to
		if err := unix.Stat(path, &stat); err != nil {
			return &os.PathError{Op: "stat", Path: path, Err: err}
		}
		kind := map[uint32]string{unix.S_IFCHR: "c", unix.S_IFBLK: "b"}[stat.Mode&unix.S_IFMT]
		if kind == "" {
			if path == host {
				return advice.Add(errors.New("not a device"), form)
			}
			return nil
		}
		mode := fs.FileMode(stat.Mode & 0o7777)
		devices = append(devices, specs.LinuxDevice{
			Path: filepath.Join(inside, strings.TrimPrefix(path, host)), Type: kind,
			Major: int64(unix.Major(stat.Rdev)), Minor: int64(unix.Minor(stat.Rdev)),
			FileMode: &mode, UID: &stat.Uid, GID: &stat.Gid,
		})
		return nil
	})
	return devices, access, err
}
