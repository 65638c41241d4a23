//go:build linux

package main

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"gocker/step01-pull/shared/lesson"
	"gocker/step01-pull/shared/testenv"
	"gocker/step05-namespaces/namespaces"
)

// The tests' program is the step, too: with the arguments in this variable, or with its own.
const (
	beStep  = "GOCKER_TEST_BE_STEP"
	ownArgs = "own"
)

func TestMain(m *testing.M) {
	if args := os.Getenv(beStep); args != "" && args != ownArgs {
		os.Args = append(os.Args[:1], strings.Fields(args)...)
		main()
		return
	} else if args == ownArgs {
		main()
		return
	}
	testenv.Alone()
	os.Exit(m.Run())
}

func TestRunEndsWithTheCommandsStatus(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	out, err := testenv.Output(t, func(stdout *os.File) error {
		return run(t.Context(), nil, stdout, []string{"--root", d.Root, "--run", d.Run, "sample", "sh", "-c", "echo I am $$; exit 7"})
	})
	var exit lesson.Exit
	if !errors.As(err, &exit) || exit != 7 {
		t.Errorf("run = %v, want exit status 7", err)
	}
	for _, want := range []string{
		"There is no image sample:latest yet", "I am 1\n", "container ", "host ", "ended with status 7",
		"next: go run ./step06-cgroups sample",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("want %q in\n%s", want, out)
		}
	}
}

func TestRunLeavesNothingAfterAnError(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t) // looks at its end
	err := run(t.Context(), nil, io.Discard, []string{"--root", d.Root, "--run", d.Run, "sample", "no-such-command"})
	if !errors.Is(err, namespaces.ErrNotFound) {
		t.Errorf("run = %v, want ErrNotFound", err)
	}
}

func TestNetworkSendsAPacketToAnotherMachine(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), beStep+"=-network -explain sample true", "GOCKER_ROOT="+d.Root, "GOCKER_RUN="+d.Run)
	out, err := cmd.CombinedOutput()
	for _, want := range []string{
		"sends a packet to another machine, 203.0.113.7, which answers: it came from 203.0.113.1\n", "masqueraded: 1\n", "ip link add lesson0 type bridge\n",
	} {
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%v, want %q in\n%s", err, want, out)
		}
	}
}

func TestRunNeedsProcAndNoOtherFileSystemOfTheKernel(t *testing.T) {
	testenv.NeedMachinesRoot(t, "it takes /proc away, and below it is the machine's")
	testenv.Needs(t, "unshare", "umount")
	d := testenv.Dirs(t)
	for _, tt := range []struct{ without, want string }{
		{"/sys", "ended with status 0"},
		{"/sys/fs/cgroup", "ended with status 0"},
		{"/proc", "step05-namespaces: proc file system: not mounted on /proc\n  mount -t proc proc /proc\n"},
	} {
		cmd := exec.Command("unshare", "--mount", "sh", "-c", "while umount -l $0; do :; done; exec $1", tt.without, exe(t))
		cmd.Env = append(os.Environ(), beStep+"=sample true", "GOCKER_ROOT="+d.Root, "GOCKER_RUN="+d.Run)
		if out, _ := cmd.CombinedOutput(); !strings.Contains(string(out), tt.want) {
			t.Errorf("without %s: want %q in\n%s", tt.without, tt.want, out)
		}
	}
}

// exe is this program; /proc/self/exe is a shell's own there.
func exe(t *testing.T) string {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRunLeavesNothingIfNobodyReadsItsOutput(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t) // looks at its end
	r, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe(t))
	cmd.Env = append(os.Environ(), beStep+"=sample sleep 1000", "GOCKER_ROOT="+d.Root, "GOCKER_RUN="+d.Run)
	cmd.Stdout = stdout
	err = cmd.Start()
	stdout.Close()
	if err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(r); lines.Scan() && !strings.HasPrefix(lines.Text(), "2. "); {
	}
	r.Close()
	cmd.Wait() // whatever its status is
	if left := testenv.Ls(t, d.Containers()); len(left) > 0 {
		t.Errorf("the containers %q are left", left)
	}
}

func TestAnOrdinaryUserHasAContainer(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap")
	for _, tt := range []struct{ subids, says, groups string }{
		{testenv.Subids(), "and has 65536 more ids", "gid=700004"},
		{"", "and there is no other user", "devpts"}, // nor is there a group 5 for terminals
	} {
		t.Run(tt.says, func(t *testing.T) {
			u := testenv.OrdinaryUser(t, tt.subids)
			out, err := u.Command([]string{beStep + "=" + ownArgs}, "/proc/self/exe", "sample", "sh", "-c",
				"echo pid $$; echo x >/dev/null; cat /proc/mounts; ls /sys/class/net; mknod /dev/disk b 8 0").CombinedOutput()
			if err == nil {
				t.Errorf("it makes a device: %s", out)
			}
			testenv.InOrder(t, string(out), "0. User 61234 is not root", tt.says, "4. It becomes sh", "pid 1\n", "overlay / overlay ", ",userxattr 0 0\n", tt.groups,
				"sysfs /sys sysfs ro", "proc /proc proc rw,nosuid,nodev,noexec,relatime 0 0\nlo\n", "/dev/disk: Operation not permitted\n", "5. It ended with status 1")
			if n := strings.Count(string(out), "proc /proc proc"); n != 1 {
				t.Errorf("it has %d proc file systems, want its own:\n%s", n, out)
			}
		})
	}
}
