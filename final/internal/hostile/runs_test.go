//go:build linux

package hostile

import (
	"archive/tar"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"gocker/step01-pull/shared/testenv"
)

// running is the image sample with one more layer and another config.
func running(change func(c *v1.Config), entries ...testenv.Entry) func(h *house) *image {
	return func(h *house) *image {
		layers, config := sampleLayers(h.t)
		i := newImage(layers...)
		i.config.Config = config.Config
		for n := range entries {
			entries[n].Linkname = strings.ReplaceAll(entries[n].Linkname, "OUTSIDE", h.outside)
		}
		if entries != nil {
			i.add(of(h.t, entries...))
		}
		if change != nil {
			change(&i.config.Config)
			for _, s := range []*string{&i.config.Config.WorkingDir, &i.config.Config.User} {
				*s = strings.ReplaceAll(*s, "OUTSIDE", h.outside)
			}
		}
		return i.seal(h.t)
	}
}

func workdir(dir string) func(c *v1.Config) { return func(c *v1.Config) { c.WorkingDir = dir } }

func volume(at string) func(c *v1.Config) {
	return func(c *v1.Config) { c.Volumes = map[string]struct{}{at: {}} }
}

func user(name string) func(c *v1.Config) { return func(c *v1.Config) { c.User = name } }

func runs() []attack {
	return []attack{
		{name: "working folder of dotdots", image: running(workdir("../../../../../../../../OUTSIDE/made")),
			run: []string{"IMAGE", "pwd"}, prints: `^/.*/outside/made\n$`},
		{name: "working folder through a symlink", image: running(workdir("/door/made"), symlink("door", "OUTSIDE")),
			run: []string{"IMAGE", "pwd"}, prints: `^/.*/outside/made\n$`},
		{name: "working folder through a file that PID 1 has open", image: running(workdir("/door/3/made"), symlink("door", "/proc/1/fd")),
			run: []string{"IMAGE", "pwd"}, status: 125, prints: `working folder`},
		{name: "working folder through a symlink that leads somewhere", image: running(workdir("/door/made"), symlink("door", "srv/../../../../srv")),
			run: []string{"IMAGE", "sh", "-c", "pwd; cd -P .; pwd"}, prints: `srv/made\n$`},
		{name: "working folder through proc", image: running(workdir("/proc/self/fd/7")),
			run: []string{"IMAGE", "ls"}, status: 125, prints: `working folder`},
		{name: "working folder that is a file", image: running(workdir("/etc/passwd")),
			run: []string{"IMAGE", "pwd"}, status: 125, prints: `working folder`},
		{name: "user whose number is no number", image: running(user("bob"), file("etc/passwd", "root:x:0:0::/:/bin/sh\nbob:x:abc:0::/:/bin/sh\nbob:x:::::\n")),
			run: []string{"IMAGE", "id", "-u"}, status: 125, prints: `no such user`},
		{name: "user whose group is no number", image: running(user("bob"), file("etc/passwd", "bob:x:7:abc::/:/bin/sh\n")),
			run: []string{"IMAGE", "id", "-u"}, status: 125, prints: `group "abc"`},
		{name: "user of 2^32", image: running(user("4294967296")), run: []string{"IMAGE", "id", "-u"}, status: 125, prints: `no such user`},
		{name: "user of minus one", image: running(user("-1")), run: []string{"IMAGE", "id", "-u"}, status: 125, prints: `no such user`},
		{name: "user whose name is another's number", image: running(user("1"), file("etc/passwd", "1:x:0:0::/:/bin/sh\n")),
			run: []string{"IMAGE", "id", "-u"}, prints: `^1\n$`},
		{name: "group whose name is another's number", image: running(user("1:2"), file("etc/group", "2:x:0:\n")),
			run: []string{"IMAGE", "id", "-G"}, prints: `^2\n$`},
		{name: "user of more digits than a number has", image: running(user("1" + strings.Repeat("0", 60))),
			run: []string{"IMAGE", "id", "-u"}, status: 125, prints: `no such user`},
		{name: "passwd is a fifo", image: running(user("guest"), testenv.Entry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "etc/passwd", Mode: 0o644}}),
			run: []string{"IMAGE", "id", "-u"}, status: 125, prints: `no regular file`},
		{name: "passwd is the host's", image: running(user("guest"), symlink("etc/passwd", "OUTSIDE/passwd")),
			run: []string{"IMAGE", "id", "-u"}, status: 125, prints: `no such user`},
		{name: "passwd is a device", image: running(user("guest"), device("etc/passwd", tar.TypeChar, 1, 5)),
			run: []string{"IMAGE", "id", "-u"}, status: 125, prints: `no regular file|permission denied`,
			asUser: &outcome{125, `no such user`}}, // the device is left out, and has replaced the passwd of the layer below
		{name: "passwd of 64 MB", image: running(user("guest"), file("etc/passwd", strings.Repeat("x", 64<<20))),
			run: []string{"IMAGE", "id", "-u"}, status: 125, prints: `/etc/passwd of the image: it has 67108864 bytes`},
		{name: "group of 4 MB in lines of nothing", image: running(user("guest"), file("etc/group", strings.Repeat(":::\n", 1<<20))),
			run: []string{"IMAGE", "id", "-u"}, status: 0, prints: `^1000\n$`},
		{name: "the host's memory as a device", image: running(nil, device("mem", tar.TypeChar, 1, 5), device("disk", tar.TypeBlock, 7, 0)),
			run: []string{"IMAGE", "sh", "-c", "head -c 1 /mem; head -c 1 /disk; echo end"}, prints: `(?s)/mem.*ermission denied.*/disk.*ermission denied.*end`,
			asUser: &outcome{0, `(?s)/mem.*No such file.*/disk.*No such file.*end`}},
		{name: "proc is a symlink", image: running(nil, dir("mine"), symlink("proc", "mine")),
			run: []string{"IMAGE", "sh", "-c", "cat /proc/kcore | wc -c; readlink /proc/self/ns/pid"}, prints: `.`},
		{name: "proc is a file", image: running(nil, file("proc", "")), run: []string{"IMAGE", "true"}, status: 125, prints: `mount point`},
		{name: "dev is a symlink to etc", image: running(nil, symlink("dev", "etc")),
			run: []string{"IMAGE", "sh", "-c", "ls /etc/passwd; ls /dev/null"}, prints: `.`},
		{name: "dev leads out", image: running(nil, symlink("dev", "OUTSIDE/dev")),
			run: []string{"IMAGE", "stat", "-c", "%F", "/dev/null"}, prints: `^character special file\n$`},
		{name: "devices lead out", image: running(nil, symlink("dev/null", "OUTSIDE/null"), symlink("dev/console", "OUTSIDE/console"),
			symlink("dev/ptmx", "OUTSIDE/ptmx"), symlink("dev/pts", "OUTSIDE"), symlink("dev/shm", "OUTSIDE")),
			run: []string{"IMAGE", "sh", "-c", "stat -c %F /dev/null; touch /dev/shm/x"}, prints: `^character special file\n$`},
		{name: "null is another device", image: running(nil, device("dev/null", tar.TypeChar, 1, 5)),
			run: []string{"IMAGE", "sh", "-c", "cat /dev/null /proc/timer_list /proc/keys | wc -c"}, prints: `^0\n$`},
		{name: "hosts leads out", image: running(nil, symlink("etc/hosts", "OUTSIDE/hosts"), symlink("etc/hostname", "/proc/1/fd/3/x"), symlink("etc/resolv.conf", strings.Repeat("../", 30)+"OUTSIDE/new")),
			run: []string{"IMAGE", "grep", "-c", "localhost", "/etc/hosts"}, prints: `^2\n$`},
		{name: "etc is a file", image: running(user("0"), file("etc", "")), run: []string{"IMAGE", "true"}, status: 125, prints: `not a directory`},
		{name: "volume leads out", image: running(volume("/door/made"), symlink("door", "OUTSIDE")),
			run: []string{"IMAGE", "touch", "/door/made/x"}, prints: `^$`},
		{name: "volume over all", image: running(volume("/x/../..")), run: []string{"IMAGE", "true"}, status: 125, prints: `volume at /`},
		{name: "volume in proc", image: running(volume("/proc/self/attr")), run: []string{"IMAGE", "true"}, status: 125, prints: `nothing may be mounted in /proc|mount point`},
		{name: "volume of what leads out", image: running(volume("/srv/in"), symlink("srv/in", "OUTSIDE")),
			run: []string{"IMAGE", "ls", "/srv/in"}, prints: `^$`},
		{name: "mount point leads out", image: running(nil, symlink("door", "OUTSIDE")),
			run: []string{"--tmpfs", "/door/made", "--mount", "type=volume,target=/door/volume", "IMAGE", "touch", "/door/made/x", "/door/volume/y"}, prints: `^$`},
		{name: "sys leads out", image: running(nil, symlink("sys", strings.Repeat("../", 30)+"OUTSIDE")),
			run: []string{"IMAGE", "true"}, prints: `^$`},
		{name: "proc is a loop", image: running(nil, symlink("proc", "sys"), symlink("sys", "proc")),
			run: []string{"IMAGE", "true"}, status: 125, prints: `mount point`},
		{name: "NUL in the environment", image: running(func(c *v1.Config) { c.Env = append(c.Env, "A=1\x002") }),
			run: []string{"IMAGE", "true"}, status: 125, prints: `invalid argument`},
		{name: "NUL in the command", image: running(func(c *v1.Config) { c.Cmd = []string{"echo", "a\x00b"} }),
			run: []string{"IMAGE"}, status: 125, prints: `invalid argument`},
		{name: "stop signal that is none", image: running(func(c *v1.Config) { c.StopSignal = "SIGNONSENSE" }),
			run: []string{"IMAGE", "echo", "ran"}, prints: `ran|SIGNONSENSE`},
		{name: "command of escape sequences", image: running(func(c *v1.Config) { c.Cmd = []string{"/\x1b[2Jnone"} }),
			run: []string{"IMAGE"}, status: 127, prints: `\\x1b\[2Jnone`},
	}
}
