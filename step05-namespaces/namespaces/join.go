//go:build linux

package namespaces

import (
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step04-overlay/story"
)

// ErrShared says that a spec would change what a container does not have for itself.
var ErrShared = errors.New("it would change more than this container")

// An nsSet is the namespaces of a container: those that are made for it, and those of others that it joins. What is in neither is
// the host's.
type nsSet struct {
	made   int // flags
	joined []joined
}

// joined is a namespace of others.
type joined struct {
	flag int
	file *os.File
}

// has tells whether a type of namespace, as a flag, is not the host's. One that is joined may be the host's by another
// name: who says so means it.
func (o nsSet) has(flag int) bool {
	all := o.made
	for _, j := range o.joined {
		all |= j.flag
	}
	return all&flag != 0
}

func (o nsSet) close() {
	for _, j := range o.joined {
		j.file.Close()
	}
}

// namespacesOf opens the namespaces that a spec names by a path, as long as it means something.
func namespacesOf(spec *specs.Spec) (o nsSet, err error) {
	for _, ns := range spec.Linux.Namespaces {
		flag, ok := cloneFlags[ns.Type]
		switch {
		case !ok:
			return o, fmt.Errorf("namespace %q: not supported", ns.Type)
		case o.has(flag):
			return o, fmt.Errorf("namespace %q: there are two of it", ns.Type)
		case ns.Path == "":
			o.made |= flag
			continue
		case ns.Type == specs.MountNamespace:
			return o, fmt.Errorf("join the mount namespace %q: %w: its root would be another for all who are in it", ns.Path, ErrShared)
		}
		file, err := os.Open(ns.Path)
		if err != nil {
			return o, fmt.Errorf("join the %s namespace: %w", ns.Type, err)
		}
		o.joined = append(o.joined, joined{flag, file})
		if is, err := unix.IoctlRetInt(int(file.Fd()), unix.NS_GET_NSTYPE); err != nil || is != flag {
			return o, fmt.Errorf("join the %s namespace: %q is none", ns.Type, ns.Path)
		}
	}
	if !o.has(unix.CLONE_NEWNS) {
		return o, fmt.Errorf("no mount namespace: %w", ErrShared)
	}
	if !o.has(unix.CLONE_NEWUTS) && spec.Hostname+spec.Domainname != "" {
		return o, fmt.Errorf("set the host name %q without a uts namespace: %w", spec.Hostname, ErrShared)
	}
	return o, nil
}

// enter takes the calling thread into the namespaces. Two types are different: in which pid namespace it is, its child
// decides; and the cgroup namespace the child takes itself, since the cgroup that it is in then is the root that it sees,
// and since who is in there cannot have a child born in a cgroup that is outside of it.
func (o nsSet) enter() error {
	for _, j := range o.joined {
		if j.flag != unix.CLONE_NEWCGROUP {
			if err := unix.Setns(int(j.file.Fd()), j.flag); err != nil {
				return fmt.Errorf("join the namespace %q: %w", j.file.Name(), err)
			}
		}
	}
	return unix.Unshare(unix.CLONE_FS | o.made&^(unix.CLONE_NEWCGROUP|unix.CLONE_NEWPID))
}

// addCgroupNamespace has the child take its cgroup namespace.
func (p *Process) addCgroupNamespace(o nsSet) {
	if o.made&unix.CLONE_NEWCGROUP != 0 {
		p.list.Add("unshare the cgroup namespace", unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP)
		p.later.Run(story.Become, "the cgroup that it is in is the root that it sees", "unshare", "--cgroup")
	}
	for _, j := range o.joined {
		if j.flag == unix.CLONE_NEWCGROUP {
			p.list.Add("join the cgroup namespace", unix.SYS_SETNS, int(j.file.Fd()), unix.CLONE_NEWCGROUP)
			p.later.Run(story.Become, "it sees cgroups as others do", "nsenter", "--cgroup="+j.file.Name())
		}
	}
}

// setNames names the host that the container seems to be.
func setNames(spec *specs.Spec) error {
	if spec.Hostname != "" {
		if err := unix.Sethostname([]byte(spec.Hostname)); err != nil {
			return fmt.Errorf("set host name %q: %w", spec.Hostname, err)
		}
	}
	if spec.Domainname != "" {
		if err := unix.Setdomainname([]byte(spec.Domainname)); err != nil {
			return fmt.Errorf("set domain name %q: %w", spec.Domainname, err)
		}
	}
	return nil
}
