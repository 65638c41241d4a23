//go:build linux

package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/testenv"
	"gocker/step03-layers/road"
)

// What a container sees of itself. The shell is PID 1. Its last line says that it is done, and it waits for a line.
const questions = `
echo "pid $$, process group and session $(cut -d ' ' -f 5-6 /proc/$$/stat)"
cat /proc/$$/mountinfo
grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|SigBlk|SigIgn|Umask)' /proc/self/status
readlink /proc/$$/ns/*
cat /proc/$$/cgroup /proc/$$/limits /proc/$$/oom_score_adj
hostname; cat /proc/sys/kernel/domainname; pwd; env | sort
for f in /proc/$$/fd/*; do [ $f = /proc/$$/fd/10 ] || echo "open: ${f##*/}"; done
ip link show lo; cat /proc/net/route /sys/class/net/eth0/address /sys/class/net/eth0/mtu /etc/hosts /etc/resolv.conf 2>/dev/null
sysctl=/proc/sys/net/ipv4/ip_unprivileged_port_start; [ ! -f $sysctl ] || cat $sysctl; cat /proc/sys/kernel/msgmax
for f in /proc/sys/net/ipv4/conf/*/forwarding; do echo "$f $(cat $f)"; done
stat -c '%n %A %u:%g %t,%T' / /dev /dev/* /dev/pts/ptmx /etc /tmp
for d in /data /srv; do stat -c '%n %A %u:%g' $d $d/* 2>/dev/null; done
touch /written 2>/dev/null && echo writable
echo done
read -r line
`

// A script that tells something else than what gocker does would be seen here: both containers are asked the same.
func TestTheScriptMakesTheSameContainer(t *testing.T) {
	sameByScript(t, []explained{
		{"no flags", nil},
		{"limits", []string{"-m", "64m", "--cpus", "0.5", "--pids-limit", "20"}},
		{"read-only", []string{"--read-only"}},
		{"no network", []string{"--network", "none"}},
		{"published ports", []string{"-p", "8080:80", "-p", "127.0.0.1:8081:81/udp"}},
		{"devices", []string{"--device", "/dev/null:/dev/null2:r"}},
		{"all limits", []string{"--cpu-shares", "512", "--cpuset-cpus", "0", "--memory-reservation", "32m", "-m", "64m", "--memory-swap", "64m"}},
		{"a cgroup's parent", []string{"--cgroup-parent", explainParent()}},
	})
}

// The kernel does not matter for these: in emulated machines they would take minutes.
func TestTheScriptMakesTheSameContainerWithEveryFlag(t *testing.T) {
	odd := filepath.Join(t.TempDir(), `a "b" 'c' $(touch hacked) `+"`d`; #\nINSIDE\n")
	if err := os.MkdirAll(filepath.Join(odd, "file"), 0o755); err != nil {
		t.Fatal(err)
	}
	sameByScript(t, []explained{
		{"one process, as the setup is not its", []string{"--pids-limit", "4"}},
		{"a user with groups", []string{"-u", "guest"}},
		{"a number as user", []string{"-u", "12345:54321", "-w", "/tmp"}},
		{"a working folder that is not there", []string{"-w", "/new/folder"}},
		{"names", []string{"-h", "box.example", "-e", "A=b c", "-e", "EMPTY="}},
		{"names with all that a shell knows", []string{"-e", "A='$(touch hacked)'\n\"`touch hacked`\"\\n\x1b[31m", "-w", "/a 'b' $(c)\nINSIDE"}},
		{"folders of the host", []string{"-v", odd + ":/data", "-v", odd + ":/a 'b'/$(c):ro"}},
		{"a file of the host", []string{"-v", "/etc/hostname:/etc/hostname:ro"}},
		{"folders in memory", []string{"--tmpfs", "/data:size=1m,mode=1777", "--tmpfs", "/srv/new", "--shm-size", "1m"}},
		{"a volume, filled from the image", []string{"-v", "/srv"}},
		{"a volume with options", []string{"--mount", "type=volume,dst=/srv,volume-opt=type=tmpfs,volume-opt=device=tmpfs,\"volume-opt=o=size=1m,mode=1777\""}},
		{"an image", []string{"--mount", "type=image,source=sample,target=/data"}},
		{"a part of an image", []string{"--mount", "type=image,source=sample,target=/data,image-subpath=etc"}},
		{"no capabilities", []string{"--cap-drop", "ALL"}},
		{"no capabilities and a user", []string{"--cap-drop", "ALL", "-u", "guest"}},
		{"more capabilities", []string{"--cap-add", "MKNOD,NET_ADMIN", "--security-opt", "no-new-privileges"}},
		{"privileged", []string{"--privileged"}},
		{"the host's network", []string{"--network", "host"}},
		{"all namespaces of the host", []string{"--pid", "host", "--ipc", "host", "--uts", "host", "--network", "host", "--cgroupns", "host"}},
		{"limits of a process", []string{"--ulimit", "nofile=100:200", "--ulimit", "core=0", "--oom-score-adj", "500"}},
		{"sysctls", []string{"--sysctl", "net.ipv4.ip_unprivileged_port_start=0", "--sysctl", "kernel.msgmax=4096"}},
		{"sysctls of a device", []string{"--sysctl", "net.ipv4.conf.default.forwarding=1", "--sysctl", "net/ipv4/conf/eth0/forwarding=1"}},
		{"a device with a name and settings", []string{"--network", "name=bridge,driver-opt=com.docker.network.endpoint.ifname=data7,driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.forwarding=1"}},
		{"names of hosts", []string{"--add-host", "a:10.0.0.1", "--domainname", "example.org"}},
		{"a umask", []string{"--umask", "027"}},
		{"no filter", []string{"--security-opt", "seccomp=unconfined"}},
	})
}

// explainParent is the name of a cgroup that testenv.Alone knows as ours.
func explainParent() string { return "explain-" + filepath.Base(os.TempDir()) }

type explained struct {
	name  string
	flags []string
}

func sameByScript(t *testing.T, cases []explained) {
	t.Helper()
	testenv.NeedRoot(t)
	testenv.Needs(t, "ip", "nft")
	d := emptyDirs(t)
	ref, err := pull.ParseReference(pull.Sample)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := road.Pull(context.Background(), d, ref); err != nil {
		t.Fatal(err)
	}
	// A shell passes on what it has open, and cannot close all of it: so this test has nothing open that goes on.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOCKER_ROOT", d.Root)
	// As /var/run is: a link.
	run := filepath.Join(t.TempDir(), "link")
	if err := errors.Join(os.MkdirAll(d.Run, 0o755), os.Symlink(d.Run, run)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOCKER_RUN", run)
	t.Cleanup(func() { // a parent stays, as it may be others', too
		for _, parent := range testenv.Cgroups(func(name string) bool { return name == explainParent() }) {
			os.Remove(parent)
		}
	})
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			run := append([]string{"run", "--rm", "-i"}, tt.flags...)
			asked := []string{"sample", "sh", "-c", questions + "\nexit 7"}
			script, err := self(append(append(run, "--explain=sh"), asked...)...).Output()
			if err != nil {
				t.Fatalf("gocker run --explain=sh: %v", stderrOf(err))
			}
			file := filepath.Join(t.TempDir(), "script")
			if err := os.WriteFile(file, script, 0o600); err != nil {
				t.Fatal(err)
			}
			want := ask(t, self(append(run, asked...)...))
			got := ask(t, exec.Command("sh", file))
			if got != want {
				t.Errorf("the script:\n%s\nmakes another container: %s", script, difference(want, got))
			}
			if _, err := os.Stat("hacked"); err == nil {
				t.Error("a name was executed")
				os.Remove("hacked")
			}
		})
	}
}

func self(args ...string) *exec.Cmd {
	return &exec.Cmd{Path: "/proc/self/exe", Args: append([]string{"gocker"}, args...)}
}

func stderrOf(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return err
}

// ask returns what the questions' answers are, what limits the kernel has for the container, and how it ended; without
// what is another one for each container.
func ask(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var answers strings.Builder
	lines := bufio.NewScanner(stdout)
	for lines.Scan() && lines.Text() != "done" {
		fmt.Fprintln(&answers, lines.Text())
	}
	id := regexp.MustCompile(`upperdir=[^,]*/containers/([0-9a-f]{12})/`).FindStringSubmatch(answers.String())
	if id == nil {
		t.Fatalf("%s: no id in\n%s%s", cmd.Args[0], &answers, &stderr)
	}
	fmt.Fprint(&answers, limits(t, id[1]))
	io.WriteString(stdin, "go on\n")
	io.Copy(io.Discard, stdout)
	fmt.Fprintf(&answers, "ended: %v\n", cmd.Wait())
	if stderr.Len() > 0 {
		t.Errorf("%s wrote: %s", cmd.Args[0], &stderr)
	}
	return sameNumbers(strings.ReplaceAll(answers.String(), id[1], "ID"))
}

// limits are the files of a container's cgroups in which limits are.
func limits(t *testing.T, id string) string {
	var found []string
	limit := regexp.MustCompile(`\.(max|high|low|min|weight|shares|cpus|mems|list|limit_in_bytes|cfs_quota_us|cfs_period_us|swappiness)$|\.throttle\.(read|write)_|^tasks$|^cgroup\.procs$`)
	filepath.WalkDir("/sys/fs/cgroup", func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Base(filepath.Dir(path)) != "gocker-"+id || !limit.MatchString(entry.Name()) {
			return nil
		}
		content, _ := os.ReadFile(path)
		if name := entry.Name(); name == "tasks" || name == "cgroup.procs" {
			content = fmt.Appendf(nil, "%d\n", bytes.Count(content, []byte("\n"))) // how many
		}
		found = append(found, fmt.Sprintf("%s: %s", path, content))
		return nil
	})
	return strings.Join(found, "")
}

// sameNumbers replaces what is another one each time: the devices of file systems by the order in which they are seen,
// mounts by where they are, namespaces that are not the test's, names of volumes, and what pid the host gave.
func sameNumbers(answers string) string {
	host := map[string]bool{}
	links, _ := filepath.Glob("/proc/self/ns/*")
	for _, link := range links {
		ns, _ := os.Readlink(link)
		host[ns] = true
	}
	mount := regexp.MustCompile(`(?m)^(\d+) (\d+) (\d+:\d+) (\S+ (\S+) .*)$`)
	at, device := map[string]string{}, map[string]int{}
	mounts := mount.FindAllStringSubmatch(answers, -1)
	slices.SortStableFunc(mounts, func(a, b []string) int { return strings.Compare(a[5], b[5]) })
	for _, m := range mounts {
		at[m[1]] = m[5]
		if _, ok := device[m[3]]; !ok {
			device[m[3]] = len(device)
		}
	}
	answers = mount.ReplaceAllStringFunc(answers, func(line string) string {
		m := mount.FindStringSubmatch(line)
		return fmt.Sprintf("mount in %q of device %d: %s", at[m[2]], device[m[3]], peers.ReplaceAllString(m[4], "$1"))
	})
	lines := strings.Split(answers, "\n")
	slices.Sort(lines) // mounts are listed in the order in which they were made
	answers = strings.Join(lines, "\n")
	answers = namespace.ReplaceAllStringFunc(answers, func(ns string) string {
		if host[ns] {
			return ns
		}
		return ns[:strings.Index(ns, "[")] + "a new one"
	})
	answers = hostPids.ReplaceAllStringFunc(answers, func(line string) string {
		return number.ReplaceAllString(line, "N")
	})
	return volume.ReplaceAllString(answers, "VOLUME")
}

var (
	peers     = regexp.MustCompile(`(master|shared):\d+`)
	namespace = regexp.MustCompile(`(?m)^\w+:\[\d+\]$`)
	hostPids  = regexp.MustCompile(`(?m)^pid \d{2,},.*$`)
	number    = regexp.MustCompile(`\d+`)
	volume    = regexp.MustCompile(`[0-9a-f]{64}`)
)

func difference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	var out strings.Builder
	for _, line := range a {
		if !slices.Contains(b, line) {
			fmt.Fprintf(&out, "\n- %s", line)
		}
	}
	for _, line := range b {
		if !slices.Contains(a, line) {
			fmt.Fprintf(&out, "\n+ %s", line)
		}
	}
	return out.String()
}
