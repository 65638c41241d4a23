//go:build linux

package namespaces

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step04-overlay/check"
	"gocker/step05-namespaces/inside"
)

// ErrInProc says that something is to be mounted in /proc: that is how a container would be shown false files, by which
// those who set it up, or look after it, do something else than they think (CVE-2019-16884).
var ErrInProc = errors.New("nothing may be mounted in /proc")

// What programs like lxcfs may replace in /proc, below it: as runc has it.
var replaceable = []string{
	"/cpuinfo", "/diskstats", "/meminfo", "/stat", "/swaps", "/uptime", "/loadavg", "/slabinfo", "/net/dev",
	"/sys/kernel/ns_last_pid", "/sys/crypto/fips_enabled",
}

// An option of mount(8) that is a bit of mount(2), and one of mount_setattr(2), set or cleared.
type mountOption struct {
	flag, attr uint64
	clear      bool
}

// mountOptionBits are those of config.md, "Linux mount options". All others are left for the file system.
var mountOptionBits = map[string]mountOption{
	"defaults": {}, "bind": {}, "rbind": {},
	"ro": {flag: unix.MS_RDONLY, attr: unix.MOUNT_ATTR_RDONLY}, "rw": {flag: unix.MS_RDONLY, attr: unix.MOUNT_ATTR_RDONLY, clear: true},
	"nosuid": {flag: unix.MS_NOSUID, attr: unix.MOUNT_ATTR_NOSUID}, "suid": {flag: unix.MS_NOSUID, attr: unix.MOUNT_ATTR_NOSUID, clear: true},
	"nodev": {flag: unix.MS_NODEV, attr: unix.MOUNT_ATTR_NODEV}, "dev": {flag: unix.MS_NODEV, attr: unix.MOUNT_ATTR_NODEV, clear: true},
	"noexec": {flag: unix.MS_NOEXEC, attr: unix.MOUNT_ATTR_NOEXEC}, "exec": {flag: unix.MS_NOEXEC, attr: unix.MOUNT_ATTR_NOEXEC, clear: true},
	"nodiratime": {flag: unix.MS_NODIRATIME, attr: unix.MOUNT_ATTR_NODIRATIME}, "diratime": {flag: unix.MS_NODIRATIME, attr: unix.MOUNT_ATTR_NODIRATIME, clear: true},
	"sync": {flag: unix.MS_SYNCHRONOUS}, "async": {flag: unix.MS_SYNCHRONOUS, clear: true}, "dirsync": {flag: unix.MS_DIRSYNC},
	"strictatime": {flag: unix.MS_STRICTATIME, attr: unix.MOUNT_ATTR_STRICTATIME}, "noatime": {flag: unix.MS_NOATIME, attr: unix.MOUNT_ATTR_NOATIME},
	"relatime": {flag: unix.MS_RELATIME, attr: unix.MOUNT_ATTR_RELATIME},
}

// propagations are what a bind has to do with the mount that it is a copy of: nothing, get what is mounted there, or also
// give. With an r it holds for all mounts below, too. See mount_namespaces(7).
var propagations = map[string]uint64{
	"private": unix.MS_PRIVATE, "rprivate": unix.MS_PRIVATE, "slave": unix.MS_SLAVE, "rslave": unix.MS_SLAVE,
	"shared": unix.MS_SHARED, "rshared": unix.MS_SHARED,
}

// mountOptions sorts the options of a mount: bits for mount(2), bits for mount_setattr(2), and words for the file system.
func mountOptions(m specs.Mount) (flags uintptr, attr unix.MountAttr, data string) {
	var others []string
	attr.Propagation = unix.MS_PRIVATE
	for _, option := range m.Options {
		o, isBit := mountOptionBits[option]
		propagation, isPropagation := propagations[option]
		switch {
		case isPropagation:
			attr.Propagation = propagation
		case !isBit:
			others = append(others, option)
		case o.clear:
			flags, attr.Attr_set, attr.Attr_clr = flags&^uintptr(o.flag), attr.Attr_set&^o.attr, attr.Attr_clr|o.attr
		default:
			flags, attr.Attr_set, attr.Attr_clr = flags|uintptr(o.flag), attr.Attr_set|o.attr, attr.Attr_clr&^o.attr
		}
	}
	if attr.Attr_set&unix.MOUNT_ATTR__ATIME != 0 || flags&unix.MS_RELATIME != 0 {
		attr.Attr_clr |= unix.MOUNT_ATTR__ATIME // when times of reading are kept is one choice of three, not bits
	}
	return flags, attr, strings.Join(others, ",")
}

// isBind tells whether a mount shows a file or folder of the host: see config.md, "Mounts".
func isBind(m specs.Mount) bool {
	return m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
}

// A proc file system shows the pid namespace of the process that mounts it.
func isProc(m specs.Mount) bool { return m.Type == "proc" }

// A cgroup file system shows the cgroup namespace of the process that mounts it. "cgroup" is the specification's word for
// whichever version the host has.
func isCgroup(m specs.Mount) bool { return m.Type == "cgroup" }

// cgroupMounts is what a mount of type cgroup is on this host: with cgroup v2 one tree, with v1 a tmpfs with a folder for
// each hierarchy. See cgroups(7), and /proc/[pid]/cgroup there.
func cgroupMounts(m specs.Mount) (folder *specs.Mount, trees []specs.Mount, err error) {
	raw, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, nil, err
	}
	for line := range strings.Lines(string(raw)) {
		parts := strings.SplitN(line, ":", 3)
		if len(parts) == 3 && parts[1] != "" && !strings.HasPrefix(parts[1], "name=") { // which has no controllers
			tree := m
			tree.Destination, tree.Options = filepath.Join(m.Destination, parts[1]), append(slices.Clone(m.Options), parts[1])
			trees = append(trees, tree)
		}
	}
	if trees == nil {
		m.Type = "cgroup2"
		return nil, []specs.Mount{m}, nil
	}
	options := slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "ro" }) // until its folders are made
	return &specs.Mount{Destination: m.Destination, Type: "tmpfs", Source: "cgroup", Options: append(options, "mode=755", "size=1m")}, trees, nil
}

// inProc tells whether a mount is on one of the spec's proc mounts, or below.
func inProc(spec *specs.Spec, m specs.Mount) bool {
	return slices.ContainsFunc(spec.Mounts, func(proc specs.Mount) bool {
		return isProc(proc) && strings.HasPrefix(m.Destination+"/", proc.Destination+"/")
	})
}

// mayReplace tells whether a mount in proc is one of the harmless ones.
func mayReplace(spec *specs.Spec, m specs.Mount) bool {
	return slices.ContainsFunc(spec.Mounts, func(proc specs.Mount) bool {
		below, ok := strings.CutPrefix(m.Destination, proc.Destination)
		return isProc(proc) && ok && slices.Contains(replaceable, below)
	})
}

// mountOne mounts one entry of the spec: a tree that was picked up from the host, or a new file system. It needs the
// root to be the container's: see names.go.
func mountOne(spec *specs.Spec, m specs.Mount, tree *os.File) error {
	isFile := false
	if tree != nil {
		folder, err := inside.IsFolder(tree)
		if err != nil {
			return fmt.Errorf("bind %q: %w", m.Source, err)
		}
		isFile = !folder
	}
	point, err := inside.FindOrMake(m.Destination, isFile)
	if err != nil {
		return fmt.Errorf("make a mount point: %w", err)
	}
	defer point.Close()
	if inside.IsFileSystem(point, unix.PROC_SUPER_MAGIC) && !mayReplace(spec, m) {
		return fmt.Errorf("mount on %q: %w", m.Destination, ErrInProc)
	}
	if tree != nil {
		return bind(m, tree, point)
	}
	flags, _, data := mountOptions(m)
	if err := inside.MountOn(point, m.Source, m.Type, flags, data); err != nil {
		return fmt.Errorf("mount %s on %q: %w", m.Type, m.Destination, err)
	}
	if m.Destination == "/dev" {
		return makeDevices(spec.Linux.Devices)
	}
	return nil
}

// pickUp opens what is to be bound from the host, while the host's names are still there.
func pickUp(mounts []specs.Mount) (trees []*os.File, err error) {
	for _, m := range mounts {
		if !isBind(m) {
			trees = append(trees, nil)
			continue
		}
		below := uint(unix.AT_RECURSIVE) // with all that is mounted below it
		if slices.Contains(m.Options, "bind") {
			below = 0
		}
		tree, err := treeOf(m.Source, below)
		if err != nil {
			return trees, fmt.Errorf("bind %q: %w", m.Source, err)
		}
		trees = append(trees, tree)
	}
	return trees, nil
}

// treeOf clones what a name of the host is. A mount can be cloned only by who is in its mount namespace; so for what is
// in another container, /proc/{pid}/root/…, a thread goes there.
func treeOf(name string, flags uint) (tree *os.File, err error) {
	parts := strings.SplitN(name, "/", 5)
	if len(parts) < 5 || parts[1] != "proc" || parts[3] != "root" {
		fd, err := unix.OpenTree(unix.AT_FDCWD, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|flags)
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), name), nil
	}
	err = check.OnThread(func() error {
		ns, err := os.Open("/proc/" + parts[2] + "/ns/mnt")
		if err != nil {
			return err
		}
		defer ns.Close()
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
			return err
		}
		f, err := inside.Find("/" + parts[4])
		if err != nil {
			return err
		}
		defer f.Close()
		tree, err = inside.CloneTree(f, flags)
		return err
	})
	return tree, err
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close() // of nil it does nothing
	}
}

// bind attaches a file or folder of the host. Until then nobody can reach it, so nobody can write to it before it is
// read-only, with all mounts below it.
func bind(m specs.Mount, tree, point *os.File) error {
	_, attr, _ := mountOptions(m)
	if err := unix.MountSetattr(int(tree.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("set the options %q of the bind of %q (this needs Linux %s): %w", m.Options, m.Source, leastKernel, err)
	}
	if err := inside.Attach(tree, point); err != nil {
		return fmt.Errorf("bind %q on %q: %w", m.Source, m.Destination, err)
	}
	return nil
}
