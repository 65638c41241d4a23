//go:build linux

package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"gocker/final/internal/describe"
	"gocker/step03-layers/usernamespace"
)

// isolationFlags say what a container shares with others, and what it may do.
func isolationFlags(f *pflag.FlagSet, opts *describe.Isolation) {
	f.StringVar(&opts.PID, "pid", "", "use the process numbers of the `host|container:NAME`")
	f.StringVar(&opts.IPC, "ipc", "", "use the shared memory of the `host|container:NAME`, or its own: private, shareable (other containers may use it), or none")
	f.StringVar(&opts.UTS, "uts", "", "use the host name of the `host`")
	usual := os.Getenv("GOCKER_USERNS")
	if usernamespace.Inside() && !strings.HasPrefix(usual, "keep-id") && usual != "nomap" { // it may be root's
		usual = ""
	}
	f.StringVar(&opts.Users.Mode, "userns", usual, "`host|auto[:size=N]|keep-id[:uid=N,gid=N]|nomap`: its users. With auto, root is nobody on the host. For a user who is not root: with keep-id the user has the same number inside as outside, and root is another; with nomap the user is nobody in there (GOCKER_USERNS)")
	f.Var((*list)(&opts.Users.UIDMap), "uidmap", "`CONTAINER:HOST:SIZE`: so many user ids of the container are those of the host")
	f.Var((*list)(&opts.Users.GIDMap), "gidmap", "`CONTAINER:HOST:SIZE`: the same for groups (default as --uidmap)")
	f.StringVar(&opts.Users.SubUID, "subuidname", "", "its users are the range of this `name` in /etc/subuid")
	f.StringVar(&opts.Users.SubGID, "subgidname", "", "its groups are the range of this `name` in /etc/subgid")
	f.StringVar(&opts.Cgroupns, "cgroupns", "", "`host|private`: it sees the whole tree of cgroups, or its own cgroup as the root")
	f.Var((*commaList)(&opts.CapAdd), "cap-add", "add these `capabilities` to the usual ones, or ALL")
	f.Var((*commaList)(&opts.CapDrop), "cap-drop", "do not give it these `capabilities`, or ALL")
	f.BoolVar(&opts.Privileged, "privileged", false, "give it all capabilities and devices, and cover no files of /proc and /sys: it may do what the host's root may do")
	f.Var((*list)(&opts.SecurityOpts), "security-opt", "`no-new-privileges` (setuid programs give no rights), seccomp=FILE|unconfined (another filter of system calls, or none), systempaths=unconfined (no files of /proc and /sys are covered), no-listener (a program in it can listen to a seccomp filter of its own; why then names no denied calls)")
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
	f.Var((*list)(&opts.Ulimits), "ulimit", "limit for each process: `NAME=SOFT[:HARD]`, for example nofile=1024")
	f.Var((*list)(&opts.Sysctls), "sysctl", "kernel setting `NAME=VALUE` of its network or ipc namespace, for example net.ipv4.ip_forward=1")
	f.Var((*commaList)(&opts.GroupAdd), "group-add", "more `groups` for the user, by name or number")
	f.StringVar(&opts.Umask, "umask", "", "permission `bits` that new files do not get (default 0022)")
	f.BoolVar(&opts.Init, "init", false, "run a small program as PID 1: it passes signals to the command, and waits for orphans")
	f.StringVar(&opts.Domainname, "domainname", "", "domain `name` in the container")
}

// nameFlags say how a container finds others.
func nameFlags(f *pflag.FlagSet, opts *describe.Names) {
	f.Var((*list)(&opts.Hosts), "add-host", "a line of /etc/hosts: `NAME:ADDRESS`")
	f.Var((*list)(&opts.DNS), "dns", "`address` of a name server, instead of the host's")
	f.Var((*list)(&opts.DNSSearch), "dns-search", "`domain` in which names are looked up")
	f.Var((*list)(&opts.DNSOptions), "dns-option", "`option` of resolv.conf")
}

// networkFlags say which networks a container is on, and how it is reached from outside. The function that it returns reads them.
func networkFlags(f *pflag.FlagSet, opts *describe.Options) (finish func() error) {
	var flags describe.NetworkFlags
	f.Var((*list)(&flags.Networks), "network", "connect it to the network `NAME`; or none, host, container:NAME; or name=NAME,ip=…,alias=… (default bridge)")
	f.StringVar(&flags.IP, "ip", "", "give it this IPv4 `address` on the network")
	f.StringVar(&flags.IP6, "ip6", "", "give it this IPv6 `address` on the network")
	f.StringVar(&flags.MAC, "mac-address", "", "give it this hardware `address` on the network")
	f.Var((*list)(&flags.Aliases), "network-alias", "let others on the network find it by this `name`, too")
	f.Var((*list)(&flags.Links), "link", "let it find another container by a name: `CONTAINER[:ALIAS]`")
	f.VarP((*list)(&flags.Publish), "publish", "p", "lead a port of the host to one of the container: `[[IP:]HOSTPORT:]PORT[/udp]`")
	f.BoolVarP(&flags.PublishAll, "publish-all", "P", false, "publish all ports that the image or --expose names")
	f.Var((*list)(&flags.Expose), "expose", "say that the container listens on this `port`; -P publishes it")
	return func() (err error) {
		if len(flags.Networks) == 0 {
			flags.Networks = []string{"bridge"}
		}
		opts.Isolation.Network, opts.Network, err = flags.Parse()
		return err
	}
}
