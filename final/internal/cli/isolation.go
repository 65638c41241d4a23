//go:build linux

package cli

import (
	"fmt"

	"github.com/spf13/pflag"

	"gocker/final/internal/describe"
)

// isolationFlags say what a container shares with others, and what it may do.
func isolationFlags(f *pflag.FlagSet, opts *describe.Isolation) {
	f.StringVar(&opts.Network, "network", "none", "`none|host|container:NAME`: only a loopback interface of its own, all that the host has, or another container's")
	f.StringVar(&opts.PID, "pid", "", "process numbers of the `host|container:NAME`")
	f.StringVar(&opts.IPC, "ipc", "", "shared memory of the `host|container:NAME`, or its own: private, shareable with others, or none")
	f.StringVar(&opts.UTS, "uts", "", "name of the `host`, not one of its own")
	f.Var(only("host"), "userns", "`host`: there are no others as yet")
	f.StringVar(&opts.Cgroupns, "cgroupns", "", "`host|private`: whether it sees where in the tree of cgroups it is")
	f.Var((*commaList)(&opts.CapAdd), "cap-add", "`capabilities` beside the usual ones, or ALL")
	f.Var((*commaList)(&opts.CapDrop), "cap-drop", "`capabilities` that it does not get, or ALL")
	f.BoolVar(&opts.Privileged, "privileged", false, "all capabilities and devices, and nothing of /proc and /sys covered: as strong as the host's root")
	f.Var((*list)(&opts.SecurityOpts), "security-opt", "`no-new-privileges` (setuid programs give nothing), seccomp=FILE|unconfined (another filter of system calls, or none), systempaths=unconfined (nothing of /proc and /sys covered)")
}

// only is a flag that has this one value.
type only string

func (o only) String() string { return "" }
func (o only) Type() string   { return "string" }
func (o only) Set(value string) error {
	if value != string(o) {
		return fmt.Errorf("%w: there is only %s", describe.ErrOption, string(o))
	}
	return nil
}

// attributeFlags are what the kernel keeps for a process, or for a namespace.
func attributeFlags(f *pflag.FlagSet, opts *describe.Attributes) {
	f.Var((*list)(&opts.Ulimits), "ulimit", "limit of each process: `NAME=SOFT[:HARD]`, for example nofile=1024")
	f.Var((*list)(&opts.Sysctls), "sysctl", "`NAME=VALUE` of its own network and ipc namespaces, for example net.ipv4.ip_forward=1")
	f.Var((*commaList)(&opts.GroupAdd), "group-add", "more `groups` of the user, by name or number")
	f.StringVar(&opts.Umask, "umask", "", "what its files' `modes` are without (default 0022)")
	f.BoolVar(&opts.Init, "init", false, "a small program is PID 1, which passes signals on to the command and waits for orphans")
	f.StringVar(&opts.Domainname, "domainname", "", "domain `name` in the container")
}

// nameFlags say how a container finds others.
func nameFlags(f *pflag.FlagSet, opts *describe.Names) {
	f.Var((*list)(&opts.Hosts), "add-host", "a line of /etc/hosts: `NAME:ADDRESS`")
	f.Var((*list)(&opts.DNS), "dns", "`address` of a name server, in place of the host's")
	f.Var((*list)(&opts.DNSSearch), "dns-search", "`domain` to look names up in")
	f.Var((*list)(&opts.DNSOptions), "dns-option", "`option` of resolv.conf")
}
