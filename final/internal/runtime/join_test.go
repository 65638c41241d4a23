//go:build linux

package runtime_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/runtime"
	"gocker/step04-overlay/testroot"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/terminal"
)

// use has a spec take a namespace of the host's, or by a path, another one.
func use(spec *specs.Spec, typ specs.LinuxNamespaceType, path string) {
	l := spec.Linux
	l.Namespaces = slices.DeleteFunc(slices.Clone(l.Namespaces), func(n specs.LinuxNamespace) bool { return n.Type == typ })
	if path != "" {
		l.Namespaces = append(l.Namespaces, specs.LinuxNamespace{Type: typ, Path: path})
	}
}

func TestNamespacesOfOthersAreJoined(t *testing.T) {
	f := testroot.Mount(t)
	first := waiting(t, f, namespaces.Spec(f.Mnt(), "first", []string{"cat"}))
	for typ, file := range map[specs.LinuxNamespaceType]string{
		specs.PIDNamespace: "pid", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts", specs.NetworkNamespace: "net", specs.CgroupNamespace: "cgroup",
	} {
		for who, path := range map[string]string{"the host": "", "another container": fmt.Sprintf("/proc/%d/ns/%s", first.Pid, file)} {
			spec := sh(f, "readlink /proc/self/ns/"+file)
			use(spec, typ, path)
			if typ == specs.UTSNamespace {
				spec.Hostname = ""
			}
			if path == "" {
				path = "/proc/self/ns/" + file
			}
			want, err := os.Readlink(path)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := output(t, f, spec); got != want {
				t.Errorf("in the %s namespace of %s the process has %s, want %s", file, who, got, want)
			}
		}
	}
	spec := sh(f, "tr '\\0' ' ' < /proc/1/cmdline")
	use(spec, specs.PIDNamespace, fmt.Sprintf("/proc/%d/ns/pid", first.Pid))
	if got, _ := output(t, f, spec); got != "cat" {
		t.Errorf("PID 1 is %q, want cat", got)
	}
}

func TestWhatWouldChangeMoreThanTheContainerIsRefused(t *testing.T) {
	f := testroot.Mount(t)
	for name, tt := range map[string]struct {
		change func(s *specs.Spec)
		want   error
	}{
		"no mount namespace":              {func(s *specs.Spec) { use(s, specs.MountNamespace, "") }, namespaces.ErrShared},
		"the mount namespace of others":   {func(s *specs.Spec) { use(s, specs.MountNamespace, "/proc/self/ns/mnt") }, namespaces.ErrShared},
		"the host's name":                 {func(s *specs.Spec) { use(s, specs.UTSNamespace, "") }, namespaces.ErrShared},
		"a sysctl of the host's network":  {func(s *specs.Spec) { use(s, specs.NetworkNamespace, ""); sysctl(s, "net.ipv4.ip_forward", "1") }, namespaces.ErrShared},
		"a sysctl of the host's ipc":      {func(s *specs.Spec) { use(s, specs.IPCNamespace, ""); sysctl(s, "kernel.shmmax", "1") }, namespaces.ErrShared},
		"a sysctl of the whole machine":   {func(s *specs.Spec) { sysctl(s, "vm.swappiness", "1") }, namespaces.ErrShared},
		"a sysctl that leads elsewhere":   {func(s *specs.Spec) { sysctl(s, "net/../vm/swappiness", "1") }, namespaces.ErrShared},
		"a sysctl of dots":                {func(s *specs.Spec) { sysctl(s, "net....vm.swappiness", "1") }, namespaces.ErrShared},
		"an AppArmor profile":             {func(s *specs.Spec) { s.Process.ApparmorProfile = "x" }, runtime.ErrUnsupported},
		"ids of a user namespace":         {func(s *specs.Spec) { s.Linux.UIDMappings = []specs.LinuxIDMapping{{Size: 1}} }, runtime.ErrUnsupported},
		"a limit that the kernel has not": {func(s *specs.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_FUN"}} }, runtime.ErrUnsupported},
	} {
		spec := sh(f, "true")
		tt.change(spec)
		p, err := create(t, f, spec, terminal.Stdio{})
		if err == nil {
			p.Abort()
		}
		if !errors.Is(err, tt.want) {
			t.Errorf("Create with %s = %v, want %v", name, err, tt.want)
		}
	}
	spec := sh(f, "true")
	use(spec, specs.NetworkNamespace, "/proc/self/ns/pid")
	if p, err := create(t, f, spec, terminal.Stdio{}); err == nil {
		p.Abort()
		t.Error("a pid namespace was joined as a network namespace")
	}
}

func sysctl(s *specs.Spec, name, value string) { s.Linux.Sysctl = map[string]string{name: value} }

func TestAttributesOfTheProcess(t *testing.T) {
	f := testroot.Mount(t)
	score, umask := 500, uint32(0o077)
	spec := sh(f, `ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj; umask; cat /proc/sys/kernel/shmmax /proc/sys/net/ipv4/ip_forward; cat /proc/sys/kernel/domainname`)
	spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 64, Hard: 128}}
	spec.Process.OOMScoreAdj, spec.Process.User.Umask = &score, &umask
	spec.Linux.Sysctl = map[string]string{"kernel.shmmax": "4194304", "net.ipv4.ip_forward": "1"}
	spec.Domainname = "example.org"
	const want = "64\n128\n500\n0077\n4194304\n1\nexample.org"
	if got, _ := output(t, f, spec); got != want {
		t.Errorf("the first process has\n%s\nwant\n%s", got, want)
	}
	if got, _ := second(t, f, spec); got != want {
		t.Errorf("one more process has\n%s\nwant\n%s", got, want)
	}
}

func TestALimitThatMayNotBeRaisedSaysSo(t *testing.T) {
	f := testroot.Mount(t)
	spec := sh(f, "true")
	spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 64, Hard: math.MaxInt64}} // beyond fs.nr_open even root may not
	p, err := create(t, f, spec, terminal.Stdio{})
	if err == nil {
		_, err = p.Run()
	}
	if err == nil || !strings.Contains(err.Error(), "RLIMIT_NOFILE") {
		t.Errorf("Run = %v, want an error with RLIMIT_NOFILE", err)
	}
}

func TestDevicesOfTheSpecAreMade(t *testing.T) {
	f := testroot.Mount(t)
	mode, gid := os.FileMode(0o640), uint32(7)
	spec := sh(f, "stat -c '%n %F %t:%T %a %g' /dev/null /dev/fuse /dev/sub/disk")
	spec.Linux.Devices = []specs.LinuxDevice{
		{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229},
		{Path: "/dev/sub/disk", Type: "b", Major: 7, Minor: 0, FileMode: &mode, GID: &gid},
		{Path: "/dev/null", Type: "c", Major: 1, Minor: 3, FileMode: &mode},
	}
	want := "/dev/null character special file 1:3 640 0\n/dev/fuse character special file a:e5 666 0\n/dev/sub/disk block special file 7:0 640 7"
	if got, _ := output(t, f, spec); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A process that shares its pid namespace does not end others when it ends.
func TestEndedIsBeforeTheEndOfOutput(t *testing.T) {
	f := testroot.Mount(t)
	spec := sh(f, "sleep 1000 & echo $! > /tmp/pid; exit 3")
	use(spec, specs.PIDNamespace, "")
	var out bytes.Buffer
	p, err := create(t, f, spec, terminal.Stdio{Stdout: &out})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	<-p.Ended()
	var pid int
	if raw, err := os.ReadFile(filepath.Join(f.Mnt(), "tmp", "pid")); err != nil {
		t.Fatal(err)
	} else if _, err := fmt.Sscan(string(raw), &pid); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if status, err := p.Wait(); status != 3 || err != nil {
		t.Errorf("Wait = %d, %v, want 3", status, err)
	}
}

func TestUserAndFolder(t *testing.T) {
	f := testroot.Mount(t)
	spec := sh(f, "id -u; id -g; id -G; pwd; touch /etc/x 2>/dev/null || echo refused")
	spec.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{7, 8}}
	spec.Process.Cwd = "/new/folder"
	if got, _ := output(t, f, spec); got != "1000\n1001\n1001 7 8\n/new/folder\nrefused" {
		t.Errorf("got %q", got)
	}
}

func TestAUserCanOpenItsStreamsAgain(t *testing.T) {
	f := testroot.Mount(t)
	spec := sh(f, "cat /dev/stdin; echo out >/dev/stdout; echo err >/dev/stderr")
	spec.Process.User.UID, spec.Process.User.GID = 1000, 1000
	var out bytes.Buffer
	p, err := create(t, f, spec, terminal.Stdio{Stdin: strings.NewReader("in\n"), Stdout: &out, Stderr: &out})
	if err != nil {
		t.Fatal(err)
	}
	if status, err := p.Run(); status != 0 || err != nil || out.String() != "in\nout\nerr\n" {
		t.Errorf("Run = %d, %v, and %q", status, err, out.String())
	}
}
