//go:build linux

// Package byhand tells what package namespaces does, each with the command that does the same by hand: unshare(1),
// mount(8), nsenter(1), setsid(1).
//
//	p, err := namespaces.Create(spec, streams, byhand.Create(spec, tell))
//
// A line is told right before it is done. A shell has its programs outside, so it changes its root last, and all that is
// mounted is below $root: see package story.
package byhand

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step03-layers/usernamespace"
	"gocker/step04-overlay/story"
	"gocker/step05-namespaces/birth"
	"gocker/step05-namespaces/inside"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/rootfs"
)

// An Option is what unshare(1) and nsenter(1) call a type of namespace.
type Option struct {
	Type specs.LinuxNamespaceType
	Word string
}

// Options are those of the namespaces that a thread can go into. In a new pid namespace is only its child, and the child
// takes its cgroup namespace itself.
var Options = []Option{
	{specs.MountNamespace, "--mount"}, {specs.UTSNamespace, "--uts"}, {specs.IPCNamespace, "--ipc"}, {specs.NetworkNamespace, "--net"},
}

// Create is the part of a container that tells what Create does.
func Create(spec *specs.Spec, tell story.Story) namespaces.Part {
	if tell == nil {
		return namespaces.Part{}
	}
	return namespaces.Part{
		Outside: func() error {
			tellNamespaces(spec, tell)
			tellRoot(spec.Root.Path, tell)
			return nil
		},
		Mount: func(_ *rootfs.Root, m specs.Mount) (bool, error) {
			Missing(tell, m.Destination, false)
			if m.Type != "proc" {
				tell.Run(story.Inside, "a "+m.Type+" of its own", MountCommand(m)...)
			}
			if m.Destination == "/dev" && m.Type == "tmpfs" {
				tellDevices(tell)
			}
			return false, nil
		},
		Inside: func() error {
			if spec.Process.Terminal {
				tell.Sh(story.Inside, "a terminal of its own, as its controlling terminal and as /dev/console",
					"# a shell has no command for that: it goes on with the terminal that it has")
			}
			return nil
		},
		First: func(*birth.List) error {
			tellChild(spec, tell)
			return nil
		},
		Last: func(*birth.List) error {
			Missing(tell, spec.Process.Cwd, false)
			tell.Run(story.Join, "the folder that the command begins in", "cd", InRoot(spec.Process.Cwd))
			return nil
		},
		Ready: func(*namespaces.Process) error {
			tellCommand(spec.Process, tell)
			return nil
		},
	}
}

// Join is the part of one more process that tells what Join does.
func Join(pid int, spec *specs.Spec, tell story.Story) namespaces.Part {
	if tell == nil {
		return namespaces.Part{}
	}
	target := fmt.Sprint("--target=", pid)
	return namespaces.Part{
		Outside: func() error {
			tell.Run(story.Enter, "one thread goes into the container's namespaces; its children are in the pid namespace too",
				"nsenter", target, "--mount", "--uts", "--ipc", "--net", "--pid")
			return nil
		},
		Ready: func(*namespaces.Process) error {
			tell.Run(story.Become, "the container's cgroup is the root that it sees", "nsenter", target, "--cgroup")
			tell.Run(story.Join, "the folder that it begins in", "cd", spec.Process.Cwd)
			tellCommand(spec.Process, tell)
			return nil
		},
	}
}

func tellNamespaces(spec *specs.Spec, tell story.Story) {
	unshare := []string{"unshare", "--propagation", "unchanged"}
	for _, o := range Options {
		if New(spec, o.Type) {
			unshare = append(unshare, o.Word)
		}
	}
	tell.Run(story.Enter, "one thread goes into new namespaces", unshare...)
	if spec.Hostname != "" {
		Name(tell, "a host name of its own", "hostname", spec.Hostname)
	}
	if New(spec, specs.NetworkNamespace) {
		tell.Run(story.Inside, "a new network namespace has only lo, and it is down", "ip", "link", "set", "lo", "up")
	}
}

// Name tells of the kernel's hostname or domainname. In a user namespace the file of that name is nobody's, but a program of that name
// may call the kernel.
func Name(tell story.Story, why, which, name string) {
	if usernamespace.Inside() {
		tell.Run(story.Inside, why, which, name)
		return
	}
	tell.Write(story.Inside, why, "/proc/sys/kernel/"+which, name)
}

// New tells whether a spec wants a new namespace of a type.
func New(spec *specs.Spec, typ specs.LinuxNamespaceType) bool {
	for _, ns := range spec.Linux.Namespaces {
		if ns.Type == typ && ns.Path == "" {
			return true
		}
	}
	return false
}

// tellRoot tells what $root is, and how it becomes the root. It is without links, as it will be looked for below
// /proc/$pid/root, where an absolute link would lead elsewhere.
func tellRoot(root string, tell story.Story) {
	if resolved, err := filepath.EvalSymlinks(root); err == nil {
		root = resolved
	}
	tell.Sh(story.Host, "the folder that will be its root", "export root="+story.Quote(root))
	tell.Run(story.Inside, "files and folders get exactly the modes that are asked for", "umask", "022")
	tell.Run(story.Inside, "mounts from here on appear nowhere else", "mount", "--make-rprivate", "/")
	tell.Run(story.Inside, "pivot_root wants a mount point", "mount", "--rbind", story.Root, story.Root)
	tell.Sh(story.Pivot, "its root folder becomes the root, and the old one is mounted on top of it",
		`nsenter --target="$pid" --mount --wd="/proc/$pid/root$root" pivot_root . .`)
	// A shell goes in last, and from there it cannot unmount any more what is outside.
	tell.Sh(story.Pivot, "… only for a moment: now it is unmounted, and all files of the host are gone",
		`nsenter --target="$pid" --mount --root=/ --wd="/proc/$pid/root" umount --no-canonicalize --lazy .`)
}

func tellDevices(tell story.Story) {
	var nodes []string
	for _, d := range rootfs.DefaultDevices {
		if usernamespace.Inside() { // its root makes no devices
			nodes = append(nodes, story.Quote("touch", InRoot(d.Path)), story.Quote("mount", "--bind", d.Path, InRoot(d.Path)))
			continue
		}
		nodes = append(nodes, story.Quote("mknod", "-m", "666", InRoot(d.Path), d.Type, fmt.Sprint(d.Major), fmt.Sprint(d.Minor)))
	}
	tell.Sh(story.Inside, "the devices without which programs do not work", strings.Join(nodes, "\n"))
	tell.Sh(story.Inside, "names that programs expect", `ln -s /proc/self/fd "$root"/dev/fd
ln -s /proc/self/fd/0 "$root"/dev/stdin
ln -s /proc/self/fd/1 "$root"/dev/stdout
ln -s /proc/self/fd/2 "$root"/dev/stderr
ln -s pts/ptmx "$root"/dev/ptmx`)
}

// tellChild tells what the child does until it waits.
func tellChild(spec *specs.Spec, tell story.Story) {
	if New(spec, specs.PIDNamespace) {
		tell.Run(story.Enter, "a child in a new pid namespace; it dies when its parent does", "unshare", "--pid", "--fork", "--kill-child")
	}
	if New(spec, specs.CgroupNamespace) {
		tell.Run(story.Become, "the cgroup that it is in is the root that it sees", "unshare", "--cgroup")
	}
	for _, m := range spec.Mounts {
		if m.Type == "proc" {
			tell.Run(story.Inside, "the child does it, because /proc shows the pid namespace of the process that mounts it", MountCommand(m)...)
		}
	}
}

// tellCommand tells how the child becomes the command.
func tellCommand(process *specs.Process, tell story.Story) {
	tell.Run(story.Become, "a session of its own: no Ctrl-C from the host's terminal", "setsid")
	tell.Run(story.Become, "its environment, without gocker's own variables", append([]string{"env", "-i"}, process.Env...)...)
	tell.Run(story.Command, "the child becomes the command", process.Args...)
}

// Missing tells that a folder, or a file, is made, if it is missing.
func Missing(tell story.Story, name string, isFile bool) {
	if f, err := inside.Find(name); err == nil {
		f.Close()
		return
	}
	if path := InRoot(name); isFile {
		tell.Sh(story.Inside, "the image does not have it, and a file is bound on a file",
			story.Quote("mkdir", "-p", filepath.Dir(path))+"\n"+story.Quote("touch", path))
	} else {
		tell.Run(story.Inside, "the image does not have it", "mkdir", "-p", path)
	}
}

// MountCommand is mount(8) for an entry of the spec.
func MountCommand(m specs.Mount) []string {
	command := []string{"mount", "-t", m.Type}
	if len(m.Options) > 0 {
		command = append(command, "-o", strings.Join(m.Options, ","))
	}
	return append(command, m.Source, InRoot(m.Destination))
}

// InRoot is the container's path as a story has it: without the image's links. A shell, which is outside, would follow
// them to the host's files. It is called on a thread that is inside.
func InRoot(path string) string {
	path = resolve(path, 40)
	if path == "/" {
		return story.Root
	}
	return story.Root + path
}

// resolve follows links, also to what is not there yet; at most that many.
func resolve(path string, links int) string {
	if path == "/" {
		return path
	}
	path = filepath.Join(resolve(filepath.Dir(path), links), filepath.Base(path))
	target, err := os.Readlink(path)
	switch {
	case err != nil || links == 0:
		return path
	case !filepath.IsAbs(target):
		target = filepath.Join(filepath.Dir(path), target)
	}
	return resolve(target, links-1)
}
