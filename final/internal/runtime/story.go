//go:build linux

package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/idmap"
	"gocker/step04-overlay/overlay"
	"gocker/step04-overlay/story"
	"gocker/step05-namespaces/birth"
	"gocker/step05-namespaces/byhand"
	"gocker/step05-namespaces/inside"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/rootfs"
)

// tells is the part that tells what all others do, but for the cgroup's: what byhand tells, and what this package adds. All
// of it is in the spec.
func tells(f *overlay.FS, spec *specs.Spec, tell story.Story) namespaces.Part {
	if tell == nil {
		return namespaces.Part{}
	}
	t := &teller{Story: tell, dir: f.Dir, spec: spec, images: map[string]*overlay.FS{}, step5: byhand.Create(spec, tell), isFile: map[string]bool{}}
	part := t.step5
	part.Outside = t.outside
	part.Mount = t.mount
	part.Inside = func() error {
		tellPrivileges(spec.Process, tell)
		return t.step5.Inside()
	}
	part.Last = func(list *birth.List) error {
		tellTrees(spec, t.trees, tell)
		return t.step5.Last(list)
	}
	part.Ready = t.ready
	return part
}

// A teller is what tells remembers from one moment to a later one.
type teller struct {
	story.Story
	dir    string // the container's folder
	spec   *specs.Spec
	step5  namespaces.Part
	isFile map[string]bool // which binds are of files: as the host has them
	images map[string]*overlay.FS
	proc   []byte        // our own cgroups, by which trees are found
	trees  []specs.Mount // of cgroups
	inProc []specs.Mount // to be bound when /proc is there
}

func (t *teller) outside() error {
	t.proc, _ = os.ReadFile("/proc/self/cgroup") // the part that mounts them says what is wrong
	for _, m := range t.spec.Mounts {
		if m.Type == ImageType {
			layers, err := imageLayers(m, t.dir, t.spec.Linux)
			if err != nil {
				return err
			}
			t.images[m.Source] = layers
		}
		if info, err := os.Stat(m.Source); isBind(m) && err == nil {
			t.isFile[m.Source] = !info.IsDir()
		}
	}
	tellJoined(t.spec, t.Story)
	idmap.Tell(t.spec.Linux, t.Story)
	err := t.step5.Outside()
	if t.spec.Domainname != "" {
		byhand.Name(t.Story, "and a domain name", "domainname", t.spec.Domainname)
	}
	return err
}

func (t *teller) mount(r *rootfs.Root, m specs.Mount) (bool, error) {
	switch {
	case isBind(m) && isInProc(t.spec, m):
		t.inProc = append(t.inProc, m)
	case isBind(m):
		t.bind(m)
	case m.Type == "cgroup":
		t.trees = tellCgroups(m, t.proc, t.Story)
	default:
		t.step5.Mount(r, m)
		if m.Destination == "/dev" {
			tellDevices(t.spec.Linux.Devices, t.Story)
		}
	}
	return false, nil
}

func (t *teller) bind(m specs.Mount) {
	if m.Type == ImageType {
		tellImage(m, t.images[m.Source], t.Story)
		return
	}
	byhand.Missing(t.Story, m.Destination, t.isFile[m.Source])
	tellBind(m, t.spec.Linux, t.Story)
}

func (t *teller) ready(p *namespaces.Process) error {
	tellOOMScore(t.spec.Process, t.Story)
	for _, m := range t.inProc {
		t.bind(m)
	}
	t.sysctls()
	tellCovers(t.spec.Linux, t.Story)
	if t.spec.Root.Readonly {
		t.Run(story.Inside, "the image's files cannot be changed", "mount", "-o", "remount,bind,ro", story.Root)
	}
	tellProcess(t.spec, t.Story)
	return t.step5.Ready(p)
}

// sysctls tells of kernel settings. Those of a network may be about a device, which is there when the network is.
func (t *teller) sysctls() {
	const why = "a kernel setting that each namespace has"
	for _, name := range sorted(t.spec.Linux.Sysctl) {
		story.Story(func(l story.Line) {
			if strings.HasPrefix(sysctlFile(name), "/proc/sys/net/") {
				t.Sh(story.Pivot, why, `nsenter --target="$pid" --net sh -c `+story.Quote(l.Command))
				return
			}
			t.Story(l)
		}).Write(story.Inside, why, sysctlFile(name), t.spec.Linux.Sysctl[name])
	}
}

// tellsJoin is the same for one more process.
func tellsJoin(pid int, spec *specs.Spec, tell story.Story) namespaces.Part {
	part := byhand.Join(pid, spec, tell)
	if tell == nil {
		return part
	}
	part.Inside = func() error {
		tellPrivileges(spec.Process, tell)
		return nil
	}
	ready := part.Ready
	part.Ready = func(p *namespaces.Process) error {
		tellOOMScore(spec.Process, tell)
		tellProcess(spec, tell)
		return ready(p)
	}
	return part
}

func tellJoined(spec *specs.Spec, tell story.Story) {
	enter := []string{"nsenter"}
	for _, ns := range spec.Linux.Namespaces {
		if ns.Path == "" {
			continue
		}
		if ns.Type == specs.CgroupNamespace {
			tell.Run(story.Become, "it sees the cgroups of others", "nsenter", "--cgroup="+ns.Path)
		}
		for _, o := range append(byhand.Options, byhand.Option{Type: specs.PIDNamespace, Word: "--pid"}) {
			if o.Type == ns.Type {
				enter = append(enter, o.Word+"="+ns.Path)
			}
		}
	}
	if len(enter) > 1 {
		tell.Run(story.Enter, "one thread goes into namespaces of others", enter...)
	}
}

// tellCgroups tells of a cgroup file system, and returns what the child mounts of it.
func tellCgroups(m specs.Mount, proc []byte, tell story.Story) []specs.Mount {
	folder, trees := cgroupMounts(m, proc)
	byhand.Missing(tell, m.Destination, false)
	if folder != nil {
		tell.Run(story.Inside, "a folder for each tree of cgroups", byhand.MountCommand(*folder)...)
	}
	for _, tree := range trees {
		if folder != nil {
			tell.Run(story.Inside, "a tree's folder", "mkdir", "-p", byhand.InRoot(tree.Destination))
		}
		for _, name := range shortNames(tree) {
			tell.Run(story.Inside, "a name that programs expect", "ln", "-s", filepath.Base(tree.Destination), byhand.InRoot(name))
		}
	}
	return trees
}

func tellTrees(spec *specs.Spec, trees []specs.Mount, tell story.Story) {
	for _, tree := range trees {
		if byhand.New(spec, specs.CgroupNamespace) {
			tell.Run(story.Join, "the child does it, because it shows the cgroup namespace of the process that mounts it",
				append([]string{"unshare", "--cgroup"}, byhand.MountCommand(tree)...)...)
		} else {
			tell.Run(story.Join, "by the child", byhand.MountCommand(tree)...)
		}
	}
}

func tellDevices(devices []specs.LinuxDevice, tell story.Story) {
	var nodes []string
	for _, d := range devices {
		mode := os.FileMode(0o666)
		if d.FileMode != nil {
			mode = d.FileMode.Perm()
		}
		path := byhand.InRoot(d.Path)
		if folder := story.Quote("mkdir", "-p", filepath.Dir(path)); filepath.Dir(d.Path) != "/dev" && !slices.Contains(nodes, folder) {
			nodes = append(nodes, folder)
		}
		if slices.ContainsFunc(rootfs.DefaultDevices, func(one specs.LinuxDevice) bool { return one.Path == d.Path }) {
			nodes = append(nodes, story.Quote("rm", path))
		}
		nodes = append(nodes, story.Quote("mknod", "-m", fmt.Sprintf("%o", mode), path, d.Type, fmt.Sprint(d.Major), fmt.Sprint(d.Minor)))
		if d.UID != nil || d.GID != nil {
			nodes = append(nodes, story.Quote("chown", fmt.Sprintf("%d:%d", id(d.UID), id(d.GID)), path))
		}
	}
	if len(nodes) > 0 {
		tell.Sh(story.Inside, "the devices that are asked for", strings.Join(nodes, "\n"))
	}
}

func tellBind(m specs.Mount, linux *specs.Linux, tell story.Story) {
	how, target := "--rbind", byhand.InRoot(m.Destination)
	if slices.Contains(m.Options, "bind") {
		how = "--bind"
	}
	words := []string{"mount", how}
	if slices.Contains(m.Options, "idmap") {
		words = append(words, "-o", idmap.Option(linux))
	}
	tell.Run(story.Inside, "a file or folder of the host", append(words, m.Source, target)...)
	var options []string
	for _, option := range m.Options {
		if attr := attributesOf([]string{option}); attr.Attr_set|attr.Attr_clr != 0 {
			options = append(options, option)
		}
	}
	if len(options) > 0 {
		tell.Run(story.Inside, "… with options, which takes a second mount", "mount", "-o", strings.Join(append([]string{"remount", "bind"}, options...), ","), target)
	}
}

// tellCovers tells what is masked and made read-only, of what there is.
func tellCovers(linux *specs.Linux, tell story.Story) {
	each := func(why string, paths []string, do string) {
		var there []string
		for _, path := range paths {
			if f, err := inside.Find(path); err == nil {
				there = append(there, byhand.InRoot(path))
				f.Close()
			}
		}
		if len(there) > 0 {
			tell.Sh(story.Inside, why, "for path in "+story.Quote(there...)+"; do\n"+do+"\ndone")
		}
	}
	each("files that tell too much about the host are covered: files by the null device, folders by an empty one", linux.MaskedPaths,
		`	if [ -d "$path" ]; then mount -t tmpfs -o ro,size=0 tmpfs "$path"; else mount --bind "$root"/dev/null "$path"; fi`)
	each("files that change the kernel for all are read-only", linux.ReadonlyPaths,
		`	mount --rbind "$path" "$path"; mount -o remount,bind,ro,nosuid,nodev,noexec "$path"`)
}

func tellPrivileges(process *specs.Process, tell story.Story) {
	tell.Run(story.Become, "a program with file capabilities gets no more than its file says", "setpriv", "--inh-caps=-all", "--ambient-caps=-all")
	if process.Capabilities != nil {
		words := []string{"-all"}
		for _, name := range process.Capabilities.Bounding {
			words = append(words, "+"+strings.ToLower(strings.TrimPrefix(name, "CAP_")))
		}
		tell.Run(story.Become, "the capabilities that root keeps", "setpriv", "--bounding-set="+strings.Join(words, ","))
	}
	if process.NoNewPrivileges {
		tell.Run(story.Become, "no setuid program gives more rights", "setpriv", "--no-new-privs")
	}
}

// tellProcess tells what the child takes on before it becomes the command.
func tellProcess(spec *specs.Spec, tell story.Story) {
	for _, l := range spec.Process.Rlimits {
		tell.Run(story.Become, "a limit that it may lower", "prlimit",
			fmt.Sprintf("--%s=%s:%s", strings.ToLower(strings.TrimPrefix(l.Type, "RLIMIT_")), rlimitWord(l.Soft), rlimitWord(l.Hard)))
	}
	if spec.Linux.Seccomp != nil {
		tell.Sh(story.Join, "a seccomp filter says which system calls go through",
			"# setpriv --seccomp-filter FILE, since util-linux 2.41; nothing else in a shell can load one")
	}
	user := spec.Process.User
	groups := "--clear-groups"
	if len(user.AdditionalGids) > 0 {
		groups = "--groups=" + strings.ReplaceAll(strings.Trim(fmt.Sprint(user.AdditionalGids), "[]"), " ", ",")
	}
	tell.Run(story.Become, "its user and groups", "setpriv", fmt.Sprint("--reuid=", user.UID), fmt.Sprint("--regid=", user.GID), groups)
	if user.Umask != nil {
		tell.Run(story.Join, "permission bits that new files do not get", "umask", fmt.Sprintf("%03o", *user.Umask))
	}
}

// rlimitWord is prlimit(1)'s word for a limit.
func rlimitWord(n uint64) string {
	if n == unix.RLIM_INFINITY {
		return "unlimited"
	}
	return strconv.FormatUint(n, 10)
}

func tellOOMScore(process *specs.Process, tell story.Story) {
	if score := process.OOMScoreAdj; score != nil {
		tell.Write(story.Join, "how soon the kernel kills it if memory runs out", "/proc/self/oom_score_adj", *score)
	}
}
