//go:build linux

package runtime_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/capabilities"
	"gocker/final/internal/runtime"
	"gocker/step01-pull/shared/testenv"
	"gocker/step04-overlay/overlay"
	"gocker/step04-overlay/testroot"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/rootfs"
	"gocker/step05-namespaces/terminal"
)

// What a process has from the one that started it, and a container's should not have from gocker.
const inherited = `grep -E '^(SigBlk|SigIgn|CapInh|CapAmb):' /proc/self/status; umask; ulimit -Sn`

const clean = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nCapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n0022\n777"

func TestNothingIsInheritedFromWhoStartsGocker(t *testing.T) {
	testenv.NeedRoot(t)
	if os.Getenv("INHERITED") == "" {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("env", "--ignore-signal=PIPE,HUP,USR2", "--block-signal=TERM,USR1", "setpriv", "--inh-caps=+chown,+net_admin", "--ambient-caps=+chown",
			"sh", "-c", `umask 077; ulimit -Sn 777; exec "$@"`, "sh", exe, "-test.run", t.Name(), "-test.v")
		cmd.Env = append(os.Environ(), "INHERITED=1")
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--- PASS")) {
			t.Errorf("%v: %v\n%s", cmd.Args, err, out)
		}
		return
	}
	f := testroot.Mount(t)
	if got, _ := output(t, f, sh(f, inherited)); got != clean {
		t.Errorf("the first process has\n%s\nwant\n%s", got, clean)
	}
	spec := sh(f, inherited)
	if got, _ := second(t, f, spec); got != clean {
		t.Errorf("one more process has\n%s\nwant\n%s", got, clean)
	}
}

// second runs spec's command as the second process of a container, beside cat. It does so twice, where nobody may look into
// gocker's processes and where somebody may, and wants the same of both.
func second(t *testing.T, f *overlay.FS, spec *specs.Spec) (out string, status int) {
	t.Helper()
	out, status, err := secondWith(t, f, spec, notTracing(t))
	if err != nil {
		t.Fatalf("%q: %v", spec.Process.Args, err)
	}
	other, otherStatus, err := secondWith(t, f, spec, nil)
	if out != other || status != otherStatus || err != nil {
		t.Errorf("%q wrote %q and ended with %d, and where somebody may trace it %q, %d, %v", spec.Process.Args, out, status, other, otherStatus, err)
	}
	return out, status
}

// notTracing are all capabilities but for one.
func notTracing(t *testing.T) *specs.LinuxCapabilities {
	t.Helper()
	all, err := capabilities.All()
	if err != nil {
		t.Fatal(err)
	}
	return &specs.LinuxCapabilities{Bounding: slices.DeleteFunc(all, func(name string) bool { return name == "CAP_SYS_PTRACE" })}
}

// secondWith runs it in a container of these capabilities.
func secondWith(t *testing.T, f *overlay.FS, spec *specs.Spec, capabilities *specs.LinuxCapabilities) (string, int, error) {
	t.Helper()
	first, more := *spec, *spec
	process, moreProcess := *namespaces.Spec("", "", []string{"cat"}).Process, *spec.Process
	process.Capabilities, moreProcess.Capabilities = capabilities, capabilities
	first.Process, more.Process = &process, &moreProcess
	p := waiting(t, f, &first)
	var out bytes.Buffer
	streams := terminal.New(more.Process, terminal.Stdio{Stdout: &out, Stderr: &out})
	one, err := runtime.Join(p.Pid, &more, streams, p.Cgroup, nil)
	if err != nil {
		return "", 0, err
	}
	if streams.Terminal != nil {
		io.Copy(&out, streams.Terminal) // to its end, which is an error
		streams.Terminal.Close()
	}
	status, err := one.Wait()
	return strings.TrimSpace(out.String()), status, err
}

func TestTheSecondProcessIsInTheContainer(t *testing.T) {
	f := testroot.Mount(t)
	spec := sh(f, "hostname; cat /etc/motd; pwd; ls /proc/self/fd; exit 7")
	spec.Process.Cwd = "/tmp"
	// A profile that denies what a debugger needs, also to whoever starts a process.
	spec.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{
		{Names: []string{"ptrace", "clone3", "mount", "setns", "unshare"}, Action: specs.ActErrno},
	}}
	got, status := second(t, f, spec)
	if want := "testhost\nlayer 3 updated this\n/tmp\n0\n1\n2\n3"; got != want || status != 7 {
		t.Errorf("got %q, status %d, want %q, 7", got, status, want)
	}
}

func TestNobodyInsideStopsTheStartOfASecondProcess(t *testing.T) {
	f := testroot.Mount(t)
	first, err := create(t, f, sh(f, "exec sleep 1000"), terminal.Stdio{})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Abort()
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		times    int
		mayTrace bool
	}{{"once", 1, false}, {"again and again", 1 << 30, false}, {"once, by one who may trace", 1, true}, {"again and again, by one who may trace", 1 << 30, true}} {
		t.Run(tt.name, func(t *testing.T) {
			started, stopped := make(chan bool), make(chan bool)
			attack := namespaces.Part{Ready: func(p *namespaces.Process) error {
				unix.Kill(p.Pid, unix.SIGSTOP)
				go func() {
					defer close(stopped)
					for range tt.times - 1 {
						select {
						case <-started:
							return
						default:
							unix.Kill(p.Pid, unix.SIGSTOP)
						}
					}
				}()
				return nil
			}}
			spec := sh(f, "exit 7")
			if !tt.mayTrace {
				spec.Process.Capabilities = notTracing(t)
			}
			second, err := runtime.Join(first.Pid, spec, terminal.New(spec.Process, terminal.Stdio{}), first.Cgroup, nil, attack)
			close(started)
			if err != nil {
				t.Fatal(err)
			}
			<-stopped
			second.Signal(unix.SIGCONT)
			if status, err := second.Wait(); status != 7 && status != 128+9 || tt.times == 1 && status != 7 {
				t.Errorf("Wait = %d, %v", status, err)
			}
		})
	}
}

// CVE-2024-21626: a working folder in /proc/self/fd, where a folder of the host was open.
func TestNoWorkingFolderIsOutside(t *testing.T) {
	f := testroot.Mount(t)
	leak, err := unix.Open("/", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	first := waiting(t, f, namespaces.Spec(f.Mnt(), "x", []string{"cat"}))
	for fd := range 64 {
		spec := sh(f, "pwd; ls")
		spec.Process.Cwd = fmt.Sprintf("/proc/self/fd/%d", fd)
		p, err := create(t, f, spec, terminal.Stdio{})
		if err == nil {
			err = p.Start()
		}
		if err == nil {
			p.Abort()
			t.Errorf("a process with the working folder %q started", spec.Process.Cwd)
		}
		if p, err := runtime.Join(first.Pid, spec, terminal.New(spec.Process, terminal.Stdio{}), first.Cgroup, nil); err == nil {
			p.Abort()
			t.Errorf("one more process with the working folder %q started", spec.Process.Cwd)
		}
	}
}

// As long as PID 1 is gocker's child it has files of gocker's open, and the links in /proc/1/fd do not end at any root.
func TestNothingIsMadeThroughTheFilesOfPID1(t *testing.T) {
	f := testroot.Mount(t)
	host := t.TempDir()
	leak, err := unix.Open(host, unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	door := filepath.Join(f.Mnt(), "door")
	for _, link := range []string{fmt.Sprintf("/proc/1/fd/%d", leak), "/proc/1/cwd" + host, "/proc/1/root" + host, "/proc/self/root" + host} {
		if err := errors.Join(os.RemoveAll(door), os.Symlink(link, door)); err != nil {
			t.Fatal(err)
		}
		for name, change := range map[string]func(*specs.Spec){
			"working folder": func(s *specs.Spec) { s.Process.Cwd = "/door/made" },
			"mount point": func(s *specs.Spec) {
				s.Mounts = append(s.Mounts, specs.Mount{Destination: "/proc/../door/made", Type: "tmpfs", Source: "tmpfs"})
			},
			"file to be bound on": func(s *specs.Spec) {
				s.Mounts = append(s.Mounts, specs.Mount{Destination: "/proc/../door/made", Type: "bind", Source: "/etc/passwd"})
			},
			"masked path": func(s *specs.Spec) { s.Linux.MaskedPaths = []string{"/door/made"} },
			"the host's pids": func(s *specs.Spec) { // where /proc/1/root is the host's root
				s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
				s.Process.Cwd = "/door/made"
			},
		} {
			spec := sh(f, "true")
			change(spec)
			if p, err := create(t, f, spec, terminal.Stdio{}); err == nil {
				p.Abort()
			} // it may start or not
			if made, err := os.ReadDir(host); err != nil || len(made) > 0 {
				t.Fatalf("%s through %s made %v on the host, %v", name, link, made, err)
			}
		}
	}
}

func TestNothingIsMountedInProc(t *testing.T) {
	f := testroot.Mount(t)
	if err := os.Symlink("/proc", filepath.Join(f.Mnt(), "door")); err != nil {
		t.Fatal(err)
	}
	files := t.TempDir()
	for _, tt := range []struct {
		destination, source string
		want                error
	}{
		{"/proc", files, rootfs.ErrInProc},
		{"/proc/sys", files, rootfs.ErrInProc},
		{"/proc/../door/sys/kernel", files, rootfs.ErrInProc},
		{"/proc/1/attr/exec", "/etc/passwd", rootfs.ErrInProc},
		{"/proc/cpuinfo", "/etc/passwd", nil},
	} {
		spec := sh(f, "true")
		spec.Mounts = append(spec.Mounts, specs.Mount{Destination: tt.destination, Type: "bind", Source: tt.source})
		p, err := create(t, f, spec, terminal.Stdio{})
		if err == nil {
			p.Abort()
		}
		if !errors.Is(err, tt.want) {
			t.Errorf("Create with a mount on %s = %v, want %v", tt.destination, err, tt.want)
		}
	}
}

// CVE-2025-31133: what is masked is hidden behind /dev/null, and that may be anything.
func TestNothingIsMaskedByAFalseNull(t *testing.T) {
	f := testroot.Mount(t)
	spec := sh(f, "true")
	spec.Mounts = slices.DeleteFunc(spec.Mounts, func(m specs.Mount) bool { return strings.HasPrefix(m.Destination, "/dev") })
	spec.Linux.MaskedPaths = []string{"/proc/version"}
	null := filepath.Join(f.Mnt(), "dev", "null")
	if err := os.MkdirAll(filepath.Dir(null), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"/etc/passwd", "/proc/sys/kernel/core_pattern", "/dev/zero"} {
		if err := errors.Join(os.RemoveAll(null), os.Symlink(target, null)); err != nil {
			t.Fatal(err)
		}
		if p, err := create(t, f, spec, terminal.Stdio{}); err == nil {
			p.Abort()
			t.Errorf("/proc/version was hidden behind %s", target)
		}
	}
}

// An image may have links where something is to be mounted. They lead to files of the image.
func TestLinksOfTheImageStayInside(t *testing.T) {
	testenv.NeedRoot(t)
	for _, up := range []string{"/..", "/../../..", "..", "/"} {
		t.Run(up, func(t *testing.T) {
			dir := t.TempDir()
			host := filepath.Join(dir, "host")
			f := testroot.Mount(t)
			for _, name := range []string{"sys", "dev", "mnt", "proc"} {
				if err := os.MkdirAll(filepath.Join(host, name), 0o755); err != nil {
					t.Fatal(err)
				}
				link := filepath.Join(f.Mnt(), name)
				if err := os.RemoveAll(link); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(up+filepath.Join(host, name), link); err != nil {
					t.Fatal(err)
				}
			}
			spec := sh(f, "ls -d /proc/1")
			spec.Process.Cwd = "/mnt/folder"
			spec.Mounts = append(spec.Mounts,
				specs.Mount{Destination: "/mnt/file", Type: "bind", Source: "/etc/passwd"},
				specs.Mount{Destination: "/mnt/tmpfs", Type: "tmpfs", Source: "tmpfs"})
			if p, err := create(t, f, spec, terminal.Stdio{}); err == nil {
				p.Abort()
			} // it may start or not
			if made, err := filepath.Glob(filepath.Join(host, "*", "*")); err != nil || len(made) > 0 {
				t.Errorf("on the host was made %q, %v", made, err)
			}
		})
	}
}

// Before it executes its command, a process executes our file, and has parts of it in its memory.
func TestAProcessThatWaitsHasOurFileReadOnly(t *testing.T) {
	f := testroot.Mount(t)
	p, err := create(t, f, sh(f, "true"), terminal.Stdio{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Abort()
	ours, err := os.Stat("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/map_files/*", p.Pid))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, link := range append(links, fmt.Sprintf("/proc/%d/exe", p.Pid)) {
		var fs unix.Statfs_t
		info, err := os.Stat(link)
		if err == nil {
			err = unix.Statfs(link, &fs)
		}
		if err != nil || !os.SameFile(info, ours) { // shared memory has no file that can be opened
			continue
		}
		if found++; fs.Flags&unix.ST_RDONLY == 0 {
			t.Errorf("%s is our file, and can be written", link)
		}
	}
	if found < 3 {
		t.Errorf("the code, what is read, and /proc/{pid}/exe are our file: found %d of them", found)
	}
}

func TestNoFileStaysOpen(t *testing.T) {
	f := testroot.Mount(t)
	open := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	broken := sh(f, "true")
	broken.Mounts = append(broken.Mounts, specs.Mount{Destination: "/b", Type: "bind", Source: "/etc"}, specs.Mount{Destination: "/x", Type: "nonsense"})
	output(t, f, sh(f, "true")) // what Go opens once and keeps
	before := open()
	t.Run("containers", func(t *testing.T) { // what they have is closed at their end
		for range 5 {
			output(t, f, sh(f, "echo"))
			second(t, f, sh(f, "echo"))
			if p, err := create(t, f, broken, terminal.Stdio{Stdin: strings.NewReader(""), Stdout: io.Discard}); err == nil {
				t.Error("a mount of type nonsense succeeded")
				p.Abort()
			}
			p, err := create(t, f, sh(f, "true"), terminal.Stdio{Stdout: io.Discard})
			if err != nil {
				t.Fatal(err)
			}
			p.Abort()
			if err := p.Signal(unix.SIGTERM); err != nil {
				t.Errorf("Signal after the end = %v", err)
			}
		}
	})
	after := open()
	for range 100 { // a guard that has been told to end is waited for beside all else
		if after <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
		after = open()
	}
	t.Errorf("%d files are open, %d were", after, before)
}
