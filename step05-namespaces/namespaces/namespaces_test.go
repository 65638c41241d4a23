//go:build linux

package namespaces_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/testenv"
	"gocker/step04-overlay/overlay"
	"gocker/step04-overlay/testroot"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/terminal"
)

func TestMain(m *testing.M) {
	os.Exit(testroot.Run(m))
}

func create(spec *specs.Spec, stdio terminal.Stdio) (*namespaces.Process, error) {
	return namespaces.Create(spec, terminal.New(spec.Process, stdio))
}

// output runs a command to its end and returns what it wrote.
func output(t testing.TB, spec *specs.Spec) (string, int) {
	t.Helper()
	var out bytes.Buffer
	p, err := create(spec, terminal.Stdio{Stdout: &out, Stderr: &out})
	if err != nil {
		t.Fatalf("Create = %v", err)
	}
	status, err := p.Run()
	if err != nil {
		t.Fatalf("Run(%q) = %v", spec.Process.Args, err)
	}
	return strings.TrimSpace(out.String()), status
}

func sh(f *overlay.FS, script string) *specs.Spec {
	return namespaces.Spec(f.Mnt(), "testhost", []string{"sh", "-c", script})
}

func TestProcessSeesOnlyItself(t *testing.T) {
	f := testroot.Mount(t)
	for _, tt := range []struct{ name, script, want string }{
		{"it is PID 1", "echo $$", "1"},
		{"there is no other process", "ls -d /proc/[0-9]* | grep -c .", "4"}, // sh, ls, grep, and the subshell
		{"the host name is its own", "hostname", "testhost"},
		{"the root is the image's", "cat /etc/motd", "layer 3 updated this"},
		{"what a layer deleted is gone", "test -e /srv/draft || echo gone", "gone"},
		{"loopback is the only interface", "ls /sys/class/net", "lo"},
		{"loopback is up", "cat /sys/class/net/lo/flags", "0x9"}, // IFF_UP | IFF_LOOPBACK
		{"its cgroup is the root that it sees", "grep -vc ':/$' /proc/self/cgroup", "0"},
		{"/dev/null takes all", "echo x > /dev/null && echo ok", "ok"},
		{"devices are the standard ones", "ls /dev", "fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero"},
		{"devpts is its own", "ls /dev/pts", "ptmx"},
		{"/sys cannot be written", "touch /sys/x 2>/dev/null || echo no", "no"},
		{"no file of the host's program is open", "ls /proc/self/fd", "0\n1\n2\n3"}, // 3 is ls's own
		{"the host's mounts are gone", "grep -c ' / / ' /proc/self/mountinfo; grep -c /sys/fs/cgroup /proc/self/mountinfo", "1\n0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// A file that whoever started gocker left open on purpose.
			leak, err := unix.Open("/", unix.O_RDONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(leak)
			got, status := output(t, sh(f, tt.script))
			if got != tt.want && !(tt.name == "there is no other process" && (got == "2" || got == "3")) {
				t.Errorf("%s = %q (status %d), want %q", tt.script, got, status, tt.want)
			}
		})
	}
}

func TestStatusIsThatOfTheCommand(t *testing.T) {
	f := testroot.Mount(t)
	for script, want := range map[string]int{"exit 0": 0, "exit 7": 7, "exit 255": 255, "sleep 60 & exit 3": 3} {
		if _, got := output(t, sh(f, script)); got != want {
			t.Errorf("%s ended with %d, want %d", script, got, want)
		}
	}
}

func TestCommandThatCannotStart(t *testing.T) {
	f := testroot.Mount(t)
	for name, file := range map[string]struct {
		content string
		mode    os.FileMode
	}{
		"not-executable":  {"#!/bin/sh\n", 0o644},
		"no-interpreter":  {"#!/no/such/interpreter\n", 0o755},
		"unknown-format":  {"\x00\x01\x02\x03 neither ELF nor a script", 0o755},
		"a-dir/something": {"", 0o644},
	} {
		path := filepath.Join(f.Mnt(), "tmp", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(file.content), file.mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		command string
		want    error
		says    string
	}{
		{"no-such-command", namespaces.ErrNotFound, `command not found: "no-such-command": no such file`},
		{"", namespaces.ErrNotFound, `command not found: ""`},
		{"/no/such/file", namespaces.ErrNotFound, `command not found: "/no/such/file"`},
		{"/etc/passwd/x", namespaces.ErrNotFound, "/etc/passwd/x"},
		{"/tmp/no-interpreter", namespaces.ErrNotFound, "no such file"},
		{"/tmp/not-executable", namespaces.ErrNotExecutable, "permission denied"},
		{"/tmp/unknown-format", namespaces.ErrNotExecutable, "exec format error"},
		{"/tmp/a-dir", namespaces.ErrNotExecutable, "permission denied"},
	} {
		t.Run(tt.command, func(t *testing.T) {
			p, err := create(namespaces.Spec(f.Mnt(), "x", []string{tt.command}), terminal.Stdio{})
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.Run()
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("Run(%q) = %v, want %v with %q", tt.command, err, tt.want, tt.says)
			}
		})
	}
}

func TestFailedCreateLeavesNoProcess(t *testing.T) {
	f := testroot.Mount(t)
	for name, change := range map[string]func(*specs.Spec){
		"no such rootfs":           func(s *specs.Spec) { s.Root.Path = "/no/such/rootfs" },
		"a mount that fails":       func(s *specs.Spec) { s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "nonsense"}) },
		"an unsupported namespace": func(s *specs.Spec) { s.Linux.Namespaces[0].Type = "user" },
		"a folder that is a file":  func(s *specs.Spec) { s.Process.Cwd = "/etc/passwd/x" },
	} {
		t.Run(name, func(t *testing.T) {
			spec := sh(f, "true")
			change(spec)
			p, err := create(spec, terminal.Stdio{})
			if err == nil {
				p.Abort()
				t.Fatal("Create succeeded")
			}
			if children, _ := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid())); len(children) > 0 {
				t.Errorf("Create = %v, and left processes %s", err, children)
			}
		})
	}
}

// The ordinary machine has systemd, which makes / shared. Here may be none, so the test makes it so.
func TestNothingLeaksFromASharedRoot(t *testing.T) {
	testenv.NeedRoot(t)
	if os.Getenv("SHARED_ROOT") == "" {
		cmd := exec.Command("unshare", "--mount", "--propagation", "shared", "/proc/self/exe", "-test.run", t.Name(), "-test.v")
		cmd.Env = append(os.Environ(), "SHARED_ROOT=1")
		// /proc/self/exe would be unshare's own by then.
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Args[4] = exe
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--- PASS")) {
			t.Errorf("%v: %v\n%s", cmd.Args, err, out)
		}
		return
	}
	f := testroot.Mount(t)
	before := mounts(t, f.Dir)
	for range 2 { // the second run is the one that finds no /proc/self/exe, if the first left its /proc
		if got, status := output(t, sh(f, "echo $$")); got != "1" || status != 0 {
			t.Errorf("got %q, status %d", got, status)
		}
	}
	if after := mounts(t, f.Dir); after != before {
		t.Errorf("mounts leaked:\nbefore %s\nafter %s", before, after)
	}
}

// mounts are those of this machine, but for what other tests mount in temporary folders of their own meanwhile.
func mounts(t *testing.T, own string) string {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var ours strings.Builder
	for line := range strings.Lines(string(raw)) {
		point := strings.Fields(line)[4]
		if !strings.HasPrefix(point, os.TempDir()+"/") || strings.HasPrefix(point, own) {
			ours.WriteString(line)
		}
	}
	return ours.String()
}

func BenchmarkRun(b *testing.B) {
	f := testroot.Mount(b)
	for b.Loop() {
		output(b, namespaces.Spec(f.Mnt(), "bench", []string{"true"}))
	}
}
