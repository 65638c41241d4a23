//go:build linux

package runtime

import (
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step05-namespaces/birth"
	"gocker/step05-namespaces/namespaces"
)

// joined is the part of the namespaces of others that a container joins. What is neither joined nor new is the host's. It
// comes last: from here on, names of the network are those of the others.
func joined(spec *specs.Spec) namespaces.Part {
	var files []*os.File
	var cgroup *os.File // the child joins it: a thread in there cannot have a child born in a cgroup that is outside of it
	return namespaces.Part{
		Outside: func() error {
			for _, ns := range spec.Linux.Namespaces {
				if ns.Path == "" {
					continue
				}
				file, err := os.Open(ns.Path)
				if err != nil {
					return fmt.Errorf("join the %s namespace: %w", ns.Type, err)
				}
				files = append(files, file)
				flag := namespaces.Flags[ns.Type]
				if is, err := unix.IoctlRetInt(int(file.Fd()), unix.NS_GET_NSTYPE); err != nil || is != flag {
					return fmt.Errorf("join the %s namespace: %q is none", ns.Type, ns.Path)
				}
				if flag == unix.CLONE_NEWCGROUP {
					cgroup = file
				} else if flag == unix.CLONE_NEWPID && othersPids(spec) > 0 {
					continue // the child does: see apart
				} else if err := unix.Setns(int(file.Fd()), flag); err != nil {
					return fmt.Errorf("join the namespace %q: %w", ns.Path, err)
				}
			}
			return nil
		},
		First: func(list *birth.List) error {
			if cgroup != nil {
				list.Add("join the cgroup namespace", unix.SYS_SETNS, int(cgroup.Fd()), unix.CLONE_NEWCGROUP)
			}
			return nil
		},
		Done: func(error) {
			for _, f := range files {
				f.Close()
			}
		},
	}
}

// checkNamespaces looks for what the spec's namespaces cannot be.
func checkNamespaces(spec *specs.Spec) error {
	own := 0 // flags of those that are not the host's
	for _, ns := range spec.Linux.Namespaces {
		flag := namespaces.Flags[ns.Type]
		switch {
		case own&flag != 0:
			return fmt.Errorf("namespace %q: there are two of it", ns.Type)
		case ns.Path != "" && ns.Type == specs.MountNamespace:
			return fmt.Errorf("join the mount namespace %q: %w: this would change the root of all processes in it", ns.Path, namespaces.ErrShared)
		}
		own |= flag
	}
	if own&unix.CLONE_NEWUTS == 0 && spec.Domainname != "" {
		return fmt.Errorf("set the domain name %q without a uts namespace: %w", spec.Domainname, namespaces.ErrShared)
	}
	return checkSysctls(spec.Linux.Sysctl, own)
}

// domainName is the part of a name for NIS, setdomainname(2).
func domainName(spec *specs.Spec) namespaces.Part {
	return namespaces.Part{Inside: func() error {
		if spec.Domainname == "" {
			return nil
		}
		if err := unix.Setdomainname([]byte(spec.Domainname)); err != nil {
			return fmt.Errorf("set domain name %q: %w", spec.Domainname, err)
		}
		return nil
	}}
}
