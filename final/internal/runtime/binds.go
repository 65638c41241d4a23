//go:build linux

package runtime

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/idmap"
	"gocker/step01-pull/shared/advice"
	"gocker/step04-overlay/check"
	"gocker/step04-overlay/overlay"
	"gocker/step05-namespaces/inside"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/rootfs"
)

// A bind is a file or folder of the host that the container is to see.
type bind struct {
	specs.Mount
	tree *os.File // a copy of the mount, which nobody can reach yet
}

// binds is the part that mounts files and folders of the host.
func binds(f *overlay.FS, spec *specs.Spec, user **os.File) namespaces.Part {
	var all, later []bind
	next := 0
	return namespaces.Part{
		// Before all is made private: a bind may want to stay in touch with the host's mount.
		Outside: func() (err error) {
			all, err = pickUp(f.Dir, spec.Mounts, spec.Linux)
			return err
		},
		Mount: func(_ *rootfs.Root, m specs.Mount) (bool, error) {
			switch {
			case !isBind(m) && m.Type != "proc" && isInProc(spec, m):
				return false, inProc(m)
			case !isBind(m):
				return false, nil
			}
			b := all[next] // they come in the spec's order
			next++
			if slices.Contains(m.Options, "idmap") && *user != nil {
				if err := idmap.Apply(b.tree, *user); err != nil {
					return true, err
				}
			}
			if isInProc(spec, m) {
				later = append(later, b)
				return true, nil
			}
			return true, b.mount(false)
		},
		Ready: func(*namespaces.Process) error { // now there is a /proc
			for _, b := range later {
				if err := b.mount(mayReplace(spec, b.Mount)); err != nil {
					return err
				}
			}
			return nil
		},
		Done: func(error) {
			for _, b := range all {
				b.tree.Close()
			}
		},
	}
}

// isBind tells whether a mount shows files that are there already, the host's or an image's: see config.md, "Mounts".
func isBind(m specs.Mount) bool {
	return m.Type == "bind" || m.Type == ImageType || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
}

// isInProc tells whether a mount is on one of the spec's proc mounts, or below.
func isInProc(spec *specs.Spec, m specs.Mount) bool {
	return slices.ContainsFunc(spec.Mounts, func(proc specs.Mount) bool {
		return proc.Type == "proc" && strings.HasPrefix(m.Destination+"/", proc.Destination+"/")
	})
}

func inProc(m specs.Mount) error {
	return fmt.Errorf("mount on %q: %w", m.Destination, rootfs.ErrInProc)
}

// replaceable is what programs like lxcfs may replace in /proc, below it: as runc has it.
var replaceable = []string{
	"/cpuinfo", "/diskstats", "/meminfo", "/stat", "/swaps", "/uptime", "/loadavg", "/slabinfo", "/net/dev",
	"/sys/kernel/ns_last_pid", "/sys/crypto/fips_enabled",
}

// mayReplace tells whether a mount in proc is one of the harmless ones.
func mayReplace(spec *specs.Spec, m specs.Mount) bool {
	return slices.ContainsFunc(spec.Mounts, func(proc specs.Mount) bool {
		below, ok := strings.CutPrefix(m.Destination, proc.Destination)
		return proc.Type == "proc" && ok && slices.Contains(replaceable, below)
	})
}

// pickUp opens what is to be bound, in the order of the spec. container is the container's folder.
func pickUp(container string, mounts []specs.Mount, linux *specs.Linux) (all []bind, err error) {
	for _, m := range mounts {
		if !isBind(m) {
			continue
		}
		if m.Type == ImageType {
			tree, err := imageTree(m, container, linux)
			if err != nil {
				return all, err
			}
			all = append(all, bind{m, tree})
			continue
		}
		if err := propagates(m); err != nil {
			return all, err
		}
		below := uint(unix.AT_RECURSIVE) // with all that is mounted below it
		if slices.Contains(m.Options, "bind") {
			below = 0
		}
		tree, err := treeOf(m.Source, below)
		if err != nil {
			return all, fmt.Errorf("bind %q: %w", m.Source, err)
		}
		all = append(all, bind{m, tree})
	}
	return all, nil
}

// propagates is an error if a bind is to stay in touch with a mount of the host that does not do so itself. The kernel would
// say nothing, and make a private mount, or a group of its own.
func propagates(m specs.Mount) error {
	var how uint64
	for _, option := range m.Options {
		how = cmp.Or(propagations[option], how)
	}
	if how != unix.MS_SHARED && how != unix.MS_SLAVE {
		return nil
	}
	var stat unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, m.Source, 0, unix.STATX_MNT_ID, &stat); err != nil {
		return fmt.Errorf("bind %q: %w", m.Source, err)
	}
	mounts, err := mountinfo.GetMounts(func(i *mountinfo.Info) (skip, stop bool) { return uint64(i.ID) != stat.Mnt_id, false })
	if err != nil || len(mounts) == 0 {
		return err
	}
	on := mounts[0]
	if strings.Contains(on.Optional, "shared:") || how == unix.MS_SLAVE && strings.Contains(on.Optional, "master:") {
		return nil
	}
	kind := map[uint64]string{unix.MS_SHARED: "shared", unix.MS_SLAVE: "slave"}[how]
	return advice.Add(fmt.Errorf("bind %q as %s: the mount that it is on, %q, is private", m.Source, kind, on.Mountpoint),
		"make that shared: mount --make-shared %s; or leave out the option", on.Mountpoint)
}

// treeOf clones what a name of the host is. Only a thread in its mount namespace can clone a mount; so for what is in
// another container, /proc/{pid}/root/…, a thread goes there.
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

// mount attaches the tree. Until then nobody can reach it, so nobody can write to it before it is read-only, with all
// mounts below it.
func (b bind) mount(mayBeInProc bool) error {
	folder, err := inside.IsFolder(b.tree)
	if err != nil {
		return fmt.Errorf("bind %q: %w", b.Source, err)
	}
	point, err := inside.FindOrMake(b.Destination, !folder)
	if folder && errors.Is(err, unix.ENOTDIR) {
		return b.otherKind(fmt.Errorf("make a mount point: %w", err))
	}
	if err != nil {
		return fmt.Errorf("make a mount point: %w", err)
	}
	defer point.Close()
	if onFolder, err := inside.IsFolder(point); err == nil && onFolder && !folder {
		return b.otherKind(unix.EISDIR)
	}
	if inside.IsFileSystem(point, unix.PROC_SUPER_MAGIC) && !mayBeInProc {
		return inProc(b.Mount)
	}
	attr := attributesOf(b.Options)
	if err := unix.MountSetattr(int(b.tree.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		return fmt.Errorf("set the options %q of the bind of %q (this needs Linux 5.12): %w", b.Options, b.Source, err)
	}
	if err := inside.Attach(b.tree, point); err != nil {
		return fmt.Errorf("bind %q on %q: %w", b.Source, b.Destination, err)
	}
	return nil
}

// otherKind is the error if one of source and destination is a folder, and the other is none.
func (b bind) otherKind(err error) error {
	return advice.Add(fmt.Errorf("bind %q on %q: %w", b.Source, b.Destination, err), "a file is mounted on a file, and a folder on a folder: write the whole name of both")
}

// propagations are what a bind has to do with the mount that it is a copy of: nothing, get what is mounted there, or also
// give. With an r it holds for all mounts below, too. See mount_namespaces(7).
var propagations = map[string]uint64{
	"private": unix.MS_PRIVATE, "rprivate": unix.MS_PRIVATE, "slave": unix.MS_SLAVE, "rslave": unix.MS_SLAVE,
	"shared": unix.MS_SHARED, "rshared": unix.MS_SHARED,
}

// attributes are what mount_setattr(2) calls the bits of mount(2).
var attributes = map[uintptr]uint64{
	unix.MS_RDONLY: unix.MOUNT_ATTR_RDONLY, unix.MS_NOSUID: unix.MOUNT_ATTR_NOSUID, unix.MS_NODEV: unix.MOUNT_ATTR_NODEV,
	unix.MS_NOEXEC: unix.MOUNT_ATTR_NOEXEC, unix.MS_NODIRATIME: unix.MOUNT_ATTR_NODIRATIME,
	unix.MS_STRICTATIME: unix.MOUNT_ATTR_STRICTATIME, unix.MS_NOATIME: unix.MOUNT_ATTR_NOATIME,
}

// attributesOf is what options are for mount_setattr(2).
func attributesOf(options []string) unix.MountAttr {
	attr := unix.MountAttr{Propagation: unix.MS_PRIVATE}
	for _, option := range options {
		if propagation, ok := propagations[option]; ok {
			attr.Propagation = propagation
		}
	}
	set, clear, _ := rootfs.MountOptions(options)
	for flag, attribute := range attributes {
		if set&flag != 0 {
			attr.Attr_set |= attribute
		}
		if clear&flag != 0 {
			attr.Attr_clr |= attribute
		}
	}
	if attr.Attr_set&unix.MOUNT_ATTR__ATIME != 0 || set&unix.MS_RELATIME != 0 {
		attr.Attr_clr |= unix.MOUNT_ATTR__ATIME // when times of reading are kept is one choice of three, not bits
	}
	return attr
}
