//go:build linux

package describe

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step01-pull/shared/advice"
	"gocker/step03-layers/usernamespace"
)

// Isolation are the flags of "run" that say what a container shares with others, and what it may do. A namespace is
// "host", "container:ID", "ns:FILE", or empty: its own.
type Isolation struct {
	Network  string // also "none": only loopback; with networks of its own it is empty
	PID      string
	IPC      string // also "private", "shareable", which others may join, and "none": without /dev/shm
	UTS      string
	Cgroupns string
	Users    Users `json:",omitzero"`

	Privileged      bool // nothing is taken away: what follows is not looked at
	CapAdd, CapDrop []string
	SecurityOpts    []string
}

// A Share is one of the flags: what it says, and which namespace it is about.
type Share struct {
	flag  string
	mode  *string
	typ   specs.LinuxNamespaceType
	file  string   // in /proc/{pid}/ns
	own   []string // other words for one of its own
	other bool     // whether it may be another container's
}

func (i *Isolation) shares() []Share {
	return []Share{
		{"--network", &i.Network, specs.NetworkNamespace, "net", []string{"none"}, true},
		{"--pid", &i.PID, specs.PIDNamespace, "pid", []string{"private"}, true},
		{"--ipc", &i.IPC, specs.IPCNamespace, "ipc", []string{"private", "shareable", "none"}, true},
		{"--uts", &i.UTS, specs.UTSNamespace, "uts", []string{"private"}, false},
		{"--cgroupns", &i.Cgroupns, specs.CgroupNamespace, "cgroup", []string{"private"}, false},
	}
}

const ofContainer, ofFile = "container:", "ns:"

// Others are the shares that are another container's.
func (i *Isolation) Others() (others []Share) {
	for _, s := range i.shares() {
		if s.other && strings.HasPrefix(*s.mode, ofContainer) {
			others = append(others, s)
		}
	}
	return others
}

// Name is the other container's, or its id.
func (s Share) Name() string { return strings.TrimPrefix(*s.mode, ofContainer) }

// SetID puts the id of the other container in the place of its name, which may change.
func (s Share) SetID(id string) { *s.mode = ofContainer + id }

// MayJoin is an error if the other container does not share the namespace.
func (s Share) MayJoin(other Isolation) error {
	if s.typ != specs.NetworkNamespace && other.Users.Own() { // of its processes and its memory the host's root would be root
		return advice.Add(errors.New("that container has users of its own"), "start that one with --userns host")
	}
	if s.typ == specs.IPCNamespace && other.IPC != "shareable" {
		return advice.Add(errors.New("that container does not share it"), "start that one with --ipc shareable")
	}
	return nil
}

// IsPID tells whether it is the pid namespace.
func (s Share) IsPID() bool { return s.typ == specs.PIDNamespace }

// Join names the namespace of the other container, whose first process is pid: it has one as long as that runs.
func (s Share) Join(spec *specs.Spec, pid int) {
	proc := fmt.Sprintf("/proc/%d", pid)
	for i, ns := range spec.Linux.Namespaces {
		if ns.Type == s.typ {
			spec.Linux.Namespaces[i].Path = filepath.Join(proc, "ns", s.file)
		}
	}
	if s.typ == specs.IPCNamespace {
		setMount(spec, specs.Mount{Destination: "/dev/shm", Type: "bind", Source: filepath.Join(proc, "root/dev/shm"), Options: []string{"rbind"}})
	}
}

func (s Share) String() string { return s.flag + " " + *s.mode }

// isolate takes away the namespaces whose host's ones are wanted, and names those of others by their files.
func isolate(spec *specs.Spec, opts Isolation) error {
	for _, s := range opts.shares() {
		ns := &spec.Linux.Namespaces
		i := slices.IndexFunc(*ns, func(ns specs.LinuxNamespace) bool { return ns.Type == s.typ })
		file, isFile := strings.CutPrefix(*s.mode, ofFile)
		switch mode := *s.mode; {
		case mode == "" || slices.Contains(s.own, mode):
		case mode == "host":
			*ns = slices.Delete(*ns, i, i+1)
		case isFile:
			(*ns)[i].Path = file
		case strings.HasPrefix(mode, ofContainer) && s.other: // its file is known when it is started
		default:
			words := append(slices.Clone(s.own), "host", ofFile+"FILE")
			if s.other {
				words = append(words, ofContainer+"NAME")
			}
			return advice.Add(fmt.Errorf("%s %q: %w", s.flag, mode, ErrOption), "there are %s", strings.Join(words, ", "))
		}
	}
	if shares(spec, specs.UTSNamespace) {
		spec.Hostname = "" // the host's stays what it is
	}
	ownNet := opts.Network == "" || opts.Network == "none" // else the namespace is somebody else's
	if ownNet {
		openPorts(spec)
	}
	if usernamespace.Inside() {
		showHosts(spec, map[string]bool{"/proc": opts.PID == "host", "/sys": !ownNet, "/sys/fs/cgroup": opts.Cgroupns == "host"})
	}
	shareMemory(spec, opts.IPC)
	return nil
}

// showHosts has a user's container see the host's file systems, in place of new ones, that show namespaces which are not the user's:
// the processes of a pid namespace, the devices of a network namespace, the tree of a cgroup namespace. Only the owner may mount those.
func showHosts(spec *specs.Spec, are map[string]bool) {
	for i, m := range spec.Mounts {
		if are[m.Destination] {
			options := append([]string{"rbind"}, slices.DeleteFunc(slices.Clone(m.Options), func(o string) bool { return o == "rbind" })...)
			spec.Mounts[i] = specs.Mount{Destination: m.Destination, Type: "bind", Source: m.Destination, Options: options}
		}
	}
}

// isHosts tells whether a mount is one that showHosts has made.
func isHosts(m specs.Mount) bool {
	return usernamespace.Inside() && m.Source == m.Destination && slices.Contains([]string{"/proc", "/sys", "/sys/fs/cgroup"}, m.Source)
}

// openPorts lets every user of a container ping, and listen on ports below 1024, as docker has it: the ports of its own network
// namespace need no protection from its users. See icmp(7) and ip(7).
func openPorts(spec *specs.Spec) {
	if spec.Linux.Sysctl == nil {
		spec.Linux.Sysctl = map[string]string{}
	}
	groups := "0 2147483647"
	if usernamespace.Inside() { // all groups that have a number there
		groups = fmt.Sprint("0 ", usernamespace.LastGroup())
	}
	for key, value := range map[string]string{"net.ipv4.ping_group_range": groups, "net.ipv4.ip_unprivileged_port_start": "0"} {
		if _, ok := spec.Linux.Sysctl[key]; !ok {
			spec.Linux.Sysctl[key] = value
		}
	}
}

// shares tells whether a container has no namespace of this type of its own.
func shares(spec *specs.Spec, typ specs.LinuxNamespaceType) bool {
	return !slices.ContainsFunc(spec.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == typ && ns.Path == "" })
}

// shareMemory has /dev/shm and /dev/mqueue go with the ipc namespace: POSIX shared memory is files. See shm_overview(7).
func shareMemory(spec *specs.Spec, mode string) {
	switch mode {
	case "none":
		spec.Mounts = slices.DeleteFunc(spec.Mounts, func(m specs.Mount) bool { return m.Destination == "/dev/shm" })
	case "host":
		for _, folder := range []string{"/dev/shm", "/dev/mqueue"} {
			if isThere(folder) {
				setMount(spec, specs.Mount{Destination: folder, Type: "bind", Source: folder, Options: []string{"rbind"}})
			} else if usernamespace.Inside() { // only the owner of an ipc namespace may mount its queues
				spec.Mounts = slices.DeleteFunc(spec.Mounts, func(m specs.Mount) bool { return m.Destination == folder })
			}
		}
	}
}

// Hostname is what a container is called: with the host's network as the host, as docker has it. One that shares the network of
// another container is called as that: see othersHostname.
func Hostname(opts Options, id string) (string, error) {
	switch {
	case opts.Hostname != "" && opts.Isolation.UTS == "host":
		return "", advice.Add(errors.New("--hostname with --uts host: it would rename this machine"), "leave out one of them")
	case opts.Hostname != "":
		if len(opts.Hostname) > 64 || strings.ContainsFunc(opts.Hostname, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return "", fmt.Errorf("--hostname %q: %w: a name has letters, digits, . and -, and at most 64 of them", opts.Hostname, ErrOption)
		}
		return opts.Hostname, nil
	case opts.Isolation.UTS == "host" || opts.Isolation.Network == "host":
		return os.Hostname()
	}
	return id, nil
}
