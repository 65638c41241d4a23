//go:build linux

package namespaces

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/story"
)

// What is done here, in the words of unshare(1), mount(8) and setpriv(1): for a story.

// A nsOption is what unshare(1) and nsenter(1) call a namespace.
var nsOptions = []struct {
	flag int
	name string
}{
	{unix.CLONE_NEWNS, "--mount"}, {unix.CLONE_NEWUTS, "--uts"}, {unix.CLONE_NEWIPC, "--ipc"},
	{unix.CLONE_NEWNET, "--net"}, {unix.CLONE_NEWPID, "--pid"},
}

// tellNamespaces tells which namespaces a thread has gone into; in a pid namespace will be its child.
func (p *Process) tellNamespaces(own nsSet) {
	if p.tell == nil {
		return
	}
	enter, unshare := []string{"nsenter"}, []string{"unshare", "--propagation", "unchanged"}
	for _, ns := range nsOptions {
		for _, j := range own.joined {
			if j.flag == ns.flag {
				enter = append(enter, ns.name+"="+j.file.Name())
			}
		}
		if own.made&ns.flag != 0 && ns.flag != unix.CLONE_NEWPID {
			unshare = append(unshare, ns.name)
		}
	}
	if len(enter) > 1 {
		p.tell.Run(story.Enter, "one thread goes into namespaces of others", enter...)
	}
	p.tell.Run(story.Enter, "one thread goes into new namespaces", unshare...)
}

// retell tells what the child was told to do.
func (p *Process) retell(lines []story.Line) {
	for _, line := range lines {
		p.tell(line)
	}
}

// A shell has its programs outside, so it goes in last; and from there it cannot unmount any more what is outside.
func (r *rootfs) tellPivot() {
	r.tell.Run(story.Inside, "pivot_root wants a mount point", "mount", "--rbind", story.Root, story.Root)
	r.tell.Sh(story.Pivot, "its root folder becomes the root, and the old one is mounted on top of it",
		`nsenter --target="$pid" --mount --wd="/proc/$pid/root$root" pivot_root . .`)
	r.tell.Sh(story.Pivot, "… only for this moment: with it go all of the host's files",
		`nsenter --target="$pid" --mount --root=/ --wd="/proc/$pid/root" umount --no-canonicalize --lazy .`)
}

// tellPoint tells that a mount point is made, before it is.
func (r *rootfs) tellPoint(m specs.Mount, tree *os.File) {
	if r.tell == nil {
		return
	}
	if point, err := find(m.Destination); err == nil {
		point.Close()
		return
	}
	folder := m.Destination
	if tree != nil {
		if isFolder, _ := isFolder(tree); !isFolder {
			folder = filepath.Dir(m.Destination)
			defer r.tell.Run(story.Inside, "a file is bound on a file", "touch", inRoot(m.Destination))
		}
	}
	r.tell.Run(story.Inside, "a mount point that the image does not have", "mkdir", "-p", inRoot(folder))
}

// tellMount tells that an entry of the spec is mounted.
func (r *rootfs) tellMount(spec *specs.Spec, m specs.Mount) {
	if r.tell == nil {
		return
	}
	if isBind(m) {
		r.tellBind(m)
		return
	}
	r.tell.Run(story.Inside, "a "+m.Type+" of its own", mountCommand(m)...)
	if m.Destination != "/dev" {
		return
	}
	var nodes []string
	for _, d := range append(slices.Clone(defaultDevices), spec.Linux.Devices...) {
		mode := os.FileMode(0o666)
		if d.FileMode != nil {
			mode = d.FileMode.Perm()
		}
		path := inRoot(d.Path)
		nodes = append(nodes, story.Quote("mknod", "-m", fmt.Sprintf("%o", mode), path, d.Type, fmt.Sprint(d.Major), fmt.Sprint(d.Minor)))
		if d.UID != nil || d.GID != nil {
			nodes = append(nodes, story.Quote("chown", fmt.Sprintf("%d:%d", max(0, id(d.UID)), max(0, id(d.GID))), path))
		}
	}
	r.tell.Sh(story.Inside, "the devices without which programs do not work", strings.Join(nodes, "\n"))
	r.tell.Sh(story.Inside, "names that programs expect", `ln -s /proc/self/fd "$root"/dev/fd
ln -s /proc/self/fd/0 "$root"/dev/stdin
ln -s /proc/self/fd/1 "$root"/dev/stdout
ln -s /proc/self/fd/2 "$root"/dev/stderr
ln -s pts/ptmx "$root"/dev/ptmx`)
}

func (r *rootfs) tellBind(m specs.Mount) {
	how, target := "--rbind", inRoot(m.Destination)
	if slices.Contains(m.Options, "bind") {
		how = "--bind"
	}
	r.tell.Run(story.Inside, "a file or folder of the host", "mount", how, m.Source, target)
	var options []string
	for _, option := range m.Options {
		if o, ok := mountOptionBits[option]; ok && o.attr != 0 {
			options = append(options, option)
		}
	}
	if len(options) > 0 {
		r.tell.Run(story.Inside, "… with options, which takes a second mount", "mount", "-o", strings.Join(append([]string{"remount", "bind"}, options...), ","), target)
	}
}

// tellCovers tells what is masked and made read-only, of what there is.
func (r *rootfs) tellCovers(linux *specs.Linux) {
	if r.tell == nil {
		return
	}
	var folders, files, readonly []string
	for _, path := range linux.MaskedPaths {
		f, err := find(path)
		if err != nil {
			continue
		}
		if isFolder, _ := isFolder(f); isFolder {
			folders = append(folders, inRoot(path))
		} else {
			files = append(files, inRoot(path))
		}
		f.Close()
	}
	for _, path := range linux.ReadonlyPaths {
		if f, err := find(path); err == nil {
			readonly = append(readonly, inRoot(path))
			f.Close()
		}
	}
	each := func(why string, paths []string, do string) {
		if len(paths) > 0 {
			r.tell.Sh(story.Inside, why, "for path in "+story.Quote(paths...)+"\ndo "+do+"\ndone")
		}
	}
	each("files that tell too much of the host are covered", files, `mount --bind "$root"/dev/null "$path"`)
	each("folders, too", folders, `mount -t tmpfs -o ro,size=0 tmpfs "$path"`)
	each("what would change the kernel for all is read-only", readonly,
		`mount --rbind "$path" "$path"; mount -o remount,bind,ro,nosuid,nodev,noexec "$path"`)
}

func (r *rootfs) tellFolder(folder string) {
	if r.tell != nil {
		r.tell.Run(story.Join, "the folder that the command begins in", "cd", inRoot(folder))
	}
}

// mountCommand is mount(8) for an entry of the spec.
func mountCommand(m specs.Mount) []string {
	command := []string{"mount", "-t", m.Type}
	if len(m.Options) > 0 {
		command = append(command, "-o", strings.Join(m.Options, ","))
	}
	return append(command, m.Source, inRoot(m.Destination))
}

// inRoot is the container's path as a story has it: without the image's links. A shell, which is outside, would follow
// them to the host's files. It is called on a thread that is inside.
func inRoot(path string) string {
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		path = resolved
	}
	if path == "/" {
		return story.Root
	}
	return story.Root + path
}

func setprivBounding(keep []string) []string {
	words := []string{"-all"}
	for _, name := range keep {
		words = append(words, "+"+strings.ToLower(strings.TrimPrefix(name, "CAP_")))
	}
	return []string{"setpriv", "--bounding-set=" + strings.Join(words, ",")}
}

func setprivUser(user specs.User) []string {
	groups := "--clear-groups"
	if len(user.AdditionalGids) > 0 {
		groups = "--groups=" + strings.ReplaceAll(strings.Trim(fmt.Sprint(user.AdditionalGids), "[]"), " ", ",")
	}
	return []string{"setpriv", fmt.Sprint("--reuid=", user.UID), fmt.Sprint("--regid=", user.GID), groups}
}
