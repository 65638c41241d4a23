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

	"gocker/step04-overlay/story"
	"gocker/step05-namespaces/inside"
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

// tellRoot tells what $root is: without links, as it will be looked for below /proc/$pid/root, where an absolute link would
// lead elsewhere.
func (p *Process) tellRoot(root string) {
	if p.tell == nil {
		return
	}
	if resolved, err := filepath.EvalSymlinks(root); err == nil {
		root = resolved
	}
	p.tell.Sh(story.Host, "what is to be its root folder", "export root="+story.Quote(root))
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

// tellMissing tells that a folder or file is made, before it is, if it is missing.
func (r *rootfs) tellMissing(name string, tree *os.File) {
	if r.tell == nil {
		return
	}
	if f, err := inside.Find(name); err == nil {
		f.Close()
		return
	}
	isFile := false
	if tree != nil {
		folder, err := inside.IsFolder(tree)
		isFile = err == nil && !folder
	}
	if isFile {
		path := inRoot(name)
		r.tell.Sh(story.Inside, "the image does not have it, and a file is bound on a file",
			story.Quote("mkdir", "-p", filepath.Dir(path))+"\n"+story.Quote("touch", path))
		return
	}
	r.tell.Run(story.Inside, "the image does not have it", "mkdir", "-p", inRoot(name))
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
	devices := append(slices.Clone(defaultDevices), spec.Linux.Devices...)
	for i, d := range devices {
		if slices.ContainsFunc(devices[i+1:], func(later specs.LinuxDevice) bool { return later.Path == d.Path }) {
			continue // that one takes its place
		}
		mode := os.FileMode(0o666)
		if d.FileMode != nil {
			mode = d.FileMode.Perm()
		}
		path := inRoot(d.Path)
		folder := story.Quote("mkdir", "-p", filepath.Dir(path))
		if filepath.Dir(d.Path) != "/dev" && !slices.Contains(nodes, folder) {
			nodes = append(nodes, folder)
		}
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
	each := func(why string, paths []string, do string) {
		var there []string
		for _, path := range paths {
			if f, err := inside.Find(path); err == nil {
				there = append(there, inRoot(path))
				f.Close()
			}
		}
		if len(there) > 0 {
			r.tell.Sh(story.Inside, why, "for path in "+story.Quote(there...)+"; do\n"+do+"\ndone")
		}
	}
	each("what tells too much of the host is covered: files by the null device, folders by an empty one", linux.MaskedPaths,
		`	if [ -d "$path" ]; then mount -t tmpfs -o ro,size=0 tmpfs "$path"; else mount --bind "$root"/dev/null "$path"; fi`)
	each("what would change the kernel for all is read-only", linux.ReadonlyPaths,
		`	mount --rbind "$path" "$path"; mount -o remount,bind,ro,nosuid,nodev,noexec "$path"`)
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
