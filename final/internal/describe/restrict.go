//go:build linux

package describe

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"

	kernel "gocker/final/internal/capabilities"
	filters "gocker/final/internal/seccomp"
	"gocker/step01-pull/shared/advice"
	"gocker/step03-layers/usernamespace"
)

// ErrCapability says that a name is not one of a capability.
var ErrCapability = errors.New("no such capability")

// defaultCapabilities are what root of a container keeps: docker's choice. podman's leaves out the last three. A node
// that CAP_MKNOD makes is of no use, as the container's cgroup does not let it be opened; CAP_NET_RAW is for ping, in a
// network of its own; with CAP_AUDIT_WRITE login programs write to the host's audit log.
var defaultCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE",
	"CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
	"CAP_MKNOD", "CAP_NET_RAW", "CAP_AUDIT_WRITE",
}

// What /proc and /sys show of the host, or let root change of it, though all namespaces are new: docker's list.
var (
	maskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
		"/sys/devices/virtual/powercap", "/sys/firmware",
	}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// security is what --security-opt says.
type security struct {
	noNewPrivileges bool
	seccomp         string // a file, "unconfined", "builtin", or empty
	openPaths       bool   // nothing is masked or read-only
	noListener      bool   // gocker does not hear what the filter denies
}

// parseSecurity reads docker's options. AppArmor and SELinux confine no container of gocker, so to want that is no error.
func parseSecurity(options []string) (s security, err error) {
	for _, option := range options {
		key, value, hasValue := strings.Cut(option, "=")
		if !hasValue {
			key, value, hasValue = strings.Cut(option, ":") // as it was once
		}
		switch {
		case key == "no-new-privileges":
			if s.noNewPrivileges = true; hasValue {
				s.noNewPrivileges, err = strconv.ParseBool(value)
			}
		case key == "seccomp" && value != "":
			s.seccomp = value
		case option == "systempaths=unconfined":
			s.openPaths = true
		case option == "no-listener":
			s.noListener = true
		case option == "apparmor=unconfined", option == "label=disable":
		default:
			err = ErrOption
		}
		if err != nil {
			return s, advice.Add(fmt.Errorf("--security-opt %q: %w", option, err),
				"there are no-new-privileges, seccomp=FILE|unconfined|builtin, systempaths=unconfined and no-listener; AppArmor and SELinux are not used")
		}
	}
	return s, nil
}

// restrict takes from the container what it does not need; from a privileged one only what its user says.
func restrict(spec *specs.Spec, opts Isolation) error {
	s, err := parseSecurity(opts.SecurityOpts)
	if err != nil {
		return err
	}
	spec.Process.NoNewPrivileges = s.noNewPrivileges
	if opts.Privileged {
		if s.seccomp != "" {
			spec.Linux.Seccomp, err = seccompProfile(spec, s)
		}
		return errors.Join(err, openDevices(spec))
	}
	keep, err := capabilities(opts.CapAdd, opts.CapDrop)
	if err != nil {
		return err
	}
	spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: keep, Effective: keep, Permitted: keep}
	if !s.openPaths {
		spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = append(slices.Clone(maskedPaths), throttles()...), readonlyPaths
	}
	spec.Linux.Seccomp, err = seccompProfile(spec, s)
	return err
}

// throttles are the files that tell how hot each processor is, and so what others compute (Intel's only).
func throttles() (paths []string) {
	for i := range runtime.NumCPU() {
		path := fmt.Sprintf("/sys/devices/system/cpu/cpu%d/thermal_throttle", i)
		if !isThere(path) {
			break
		}
		paths = append(paths, path)
	}
	return paths
}

// openDevices shows a privileged container all devices of the host, and lets it write to /sys, as docker does.
func openDevices(spec *specs.Spec) error {
	if usernamespace.Inside() { // its root makes none
		return nil
	}
	devices, _, err := parseDevice("/dev")
	if err != nil {
		return err
	}
	own := []string{"pts", "shm", "mqueue", "fd", "console", "ptmx", "stdin", "stdout", "stderr"} // of each container
	for _, d := range devices {
		first, _, _ := strings.Cut(strings.TrimPrefix(d.Path, "/dev/"), "/")
		if !slices.Contains(own, first) {
			spec.Linux.Devices = append(spec.Linux.Devices, d)
		}
	}
	for i, m := range spec.Mounts {
		if m.Type == "sysfs" || m.Type == "cgroup" {
			spec.Mounts[i].Options = slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "ro" })
		}
	}
	return nil
}

// seccompProfile is docker's default filter, or the one in a file of docker's format. Which calls it lets through
// depends on the capabilities that the container has.
func seccompProfile(spec *specs.Spec, s security) (filter *specs.LinuxSeccomp, err error) {
	switch s.seccomp {
	case "unconfined":
		return nil, nil
	case "", "builtin":
		filter, err = seccomp.GetDefaultProfile(spec)
	default:
		profile, readErr := os.ReadFile(s.seccomp)
		if readErr != nil {
			return nil, fmt.Errorf("read the seccomp profile: %w", readErr)
		}
		filter, err = seccomp.LoadProfile(string(profile), spec)
	}
	if err != nil {
		return nil, fmt.Errorf("seccomp profile %q: %w", s.seccomp, err)
	}
	if s.noListener {
		filter.ListenerMetadata = filters.Unasked
	}
	return filter, nil
}

// capabilities are the default ones, with what is added and without what is dropped; "ALL" means all, and a name may
// lack its CAP_.
func capabilities(add, drop []string) ([]string, error) {
	all, err := kernel.All()
	if err != nil {
		return nil, err
	}
	named := func(names []string) (set []string, err error) {
		for _, name := range names {
			upper := strings.ToUpper(name)
			if upper == "ALL" {
				return all, nil
			}
			if !strings.HasPrefix(upper, "CAP_") {
				upper = "CAP_" + upper
			}
			if !slices.Contains(all, upper) {
				return nil, advice.Add(fmt.Errorf("%w: %q", ErrCapability, name), "names are those of capabilities(7), or ALL")
			}
			set = append(set, upper)
		}
		return set, nil
	}
	added, err := named(add)
	if err != nil {
		return nil, err
	}
	dropped, err := named(drop)
	if err != nil {
		return nil, err
	}
	// As docker has it: --cap-drop ALL --cap-add X leaves X.
	keep := slices.DeleteFunc(slices.Clone(defaultCapabilities), func(c string) bool { return slices.Contains(dropped, c) })
	for _, c := range added {
		if !slices.Contains(keep, c) && (len(dropped) == len(all) || !slices.Contains(dropped, c)) {
			keep = append(keep, c)
		}
	}
	return keep, nil
}
