//go:build linux

package usernamespace_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/lesson"
	"gocker/step01-pull/shared/testenv"
	"gocker/step03-layers/usernamespace"
)

// The tests' program is the lesson, too: its first argument says what the lesson does.
const beLesson = "GOCKER_TEST_BE_LESSON"

func TestMain(m *testing.M) {
	if os.Getenv(beLesson) != "" {
		lesson.Main("lesson", usernamespace.Enter(run))
		return
	}
	testenv.Alone()
	os.Exit(m.Run())
}

func run(ctx context.Context, _ io.Reader, stdout io.Writer, args []string) error {
	switch args[0] {
	case "ids":
		maps, _ := os.ReadFile("/proc/self/uid_map")
		setgroups, _ := os.ReadFile("/proc/self/setgroups")
		groups, _ := os.Getgroups()
		fmt.Fprintf(stdout, "%d %d %v map %v setgroups %s alone %v\n", os.Geteuid(), os.Getegid(), groups,
			strings.Fields(string(maps)), strings.TrimSpace(string(setgroups)), usernamespace.Alone())
		return nil
	case "own": // a file is given to user 42 and group 43
		return errors.Join(os.WriteFile(args[1], nil, 0o644), os.Chown(args[1], 42, 43))
	case "exit":
		return lesson.Exit(7)
	case "wait":
		fmt.Fprintf(stdout, "pid %d\n", os.Getpid())
		<-ctx.Done()
		fmt.Fprintln(stdout, "cleaned up")
		return nil
	case "harm":
		for _, h := range harm {
			err := h.do(args[1])
			fmt.Fprintf(stdout, "%s: refused %v, %v\n", h.what, errors.Is(err, h.want), err)
		}
		return nil
	}
	return fmt.Errorf("lesson %q: there is none", args)
}

// output is what the lesson says for an ordinary user.
func output(t *testing.T, u testenv.User, args ...string) (string, error) {
	t.Helper()
	out, err := u.Command([]string{beLesson + "=1"}, "/proc/self/exe", args...).CombinedOutput()
	return string(out), err
}

func TestAUserIsRootInside(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap")
	u := testenv.OrdinaryUser(t, testenv.Subids())
	want := fmt.Sprintf(`0. User %[1]d is not root: this program starts once more, in a user namespace. In there it is root, and has %[3]d more ids, from /etc/subuid
0 0 [] map [0 %[1]d 1 1 %[2]d %[3]d] setgroups allow alone false
`, testenv.UserID, testenv.FirstSubID, testenv.SubIDs)
	if out, err := output(t, u, "ids"); out != want || err != nil {
		t.Errorf("it prints %q, %v; want %q", out, err, want)
	}
}

// Also where there are two ranges, one of them by the user's number, and lines of others.
func TestAFileThatIsGivenAwayBelongsToAnIdOfTheRanges(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap")
	u := testenv.OrdinaryUser(t, fmt.Sprintf("learner2:1:9\n# learner:2:9\nlearner:%d:10\n%d:%d:100\n", testenv.FirstSubID, testenv.UserID, testenv.FirstSubID+1000))
	file := filepath.Join(u.Home, "file")
	if out, err := output(t, u, "own", file); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	// The first 10 are users 1 to 10.
	stat := info.Sys().(*syscall.Stat_t)
	if uid, gid := uint32(testenv.FirstSubID+1000+31), uint32(testenv.FirstSubID+1000+32); stat.Uid != uid || stat.Gid != gid {
		t.Errorf("outside it is a file of %d:%d, want %d:%d", stat.Uid, stat.Gid, uid, gid)
	}
}

// Who maps a group could leave it, and so open a file that is closed for this group alone (CVE-2014-8989). So setgroups is denied.
func TestWithoutARangeRootIsAlone(t *testing.T) {
	for _, tt := range []struct{ subids, path, why string }{
		{"", os.Getenv("PATH"), "/etc/subuid has no range for this user"},
		{"learner:700000:0\nroot:1:1\n", os.Getenv("PATH"), "/etc/subuid has no range for this user"},
		{testenv.Subids(), "/nowhere", "newgidmap is not installed"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			u := testenv.OrdinaryUser(t, tt.subids)
			cmd := u.Command([]string{beLesson + "=1", "PATH=" + tt.path}, "/proc/self/exe", "ids")
			out, err := cmd.CombinedOutput()
			want := fmt.Sprintf(`0. User %[1]d is not root: this program starts once more, in a user namespace. In there it is root, and there is no other user, as %s
0 0 [0] map [0 %[1]d 1] setgroups deny alone true
`, testenv.UserID, tt.why)
			if string(out) != want || err != nil {
				t.Errorf("with %q it prints %q, %v; want %q", tt.subids, out, err, want)
			}
			file := filepath.Join(u.Home, "file")
			if out, err := output(t, testenv.User{Home: u.Home}, "own", file); tt.path != "/nowhere" && (err == nil || !strings.Contains(out, "invalid argument")) {
				t.Errorf("a file of user 42: %v, %q; want EINVAL", err, out)
			}
		})
	}
}

func TestWhatSubuidSaysMustBeNumbers(t *testing.T) {
	u := testenv.OrdinaryUser(t, "learner:many:10\n")
	out, err := output(t, u, "ids")
	if err == nil || !strings.Contains(out, `/etc/subuid: the line "learner:many:10"`) {
		t.Errorf("it ends with %v and %q; want the line", err, out)
	}
}

func TestAMapThatTheKernelRefusesIsToldAndNothingIsLeft(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap")
	u := testenv.OrdinaryUser(t, testenv.Subids()+testenv.Subids()) // one id would be two
	out, err := output(t, u, "ids")
	if err == nil || !strings.Contains(out, "lesson: newuidmap: exit status 1: newuidmap: write to uid_map failed: Invalid argument\n") {
		t.Errorf("it ends with %v and %q; want newuidmap's error", err, out)
	}
}

// newuidmap is only of use if it is root's program.
func TestAUserIsToldWhyNewuidmapIsNotRoots(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap", "setpriv")
	u := testenv.OrdinaryUser(t, testenv.Subids())
	own := t.TempDir()
	for _, err := range []error{os.Chmod(filepath.Dir(own), 0o755), os.Chmod(own, 0o755), unix.Mount("tmpfs", own, "tmpfs", unix.MS_NOSUID, "mode=755")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { unix.Unmount(own, unix.MNT_DETACH) })
	found, err := exec.LookPath("newuidmap")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(found)
	copied := filepath.Join(own, "newuidmap")
	if err := errors.Join(err, os.WriteFile(copied, program, 0o755), os.Chmod(copied, 0o4755)); err != nil {
		t.Fatal(err)
	}
	path := "PATH=" + own + ":" + os.Getenv("PATH")
	tell := func(env []string, args ...string) string {
		out, err := u.Command(append(env, beLesson+"=1"), args[0], args[1:]...).CombinedOutput()
		if err == nil {
			t.Errorf("%q with %q ended well: %s", args, env, out)
		}
		return string(out)
	}
	testenv.InOrder(t, tell([]string{path}, "/proc/self/exe", "ids"), "lesson: newuidmap: ", copied+" lies on a file system that is mounted with nosuid")
	if err := errors.Join(unix.Mount("", own, "", unix.MS_REMOUNT, ""), os.Chmod(copied, 0o755)); err != nil {
		t.Fatal(err)
	}
	testenv.InOrder(t, tell([]string{path}, "/proc/self/exe", "ids"), "lesson: newuidmap: ", "as root: chmod u+s "+copied)
	lesson := filepath.Join(own, "lesson")
	self, err := os.ReadFile("/proc/self/exe")
	if err := errors.Join(err, os.WriteFile(lesson, self, 0o755)); err != nil {
		t.Fatal(err)
	}
	testenv.InOrder(t, tell(nil, "setpriv", "--no-new-privs", lesson, "ids"), "lesson: newuidmap: ", "this process has no_new_privs")
}

func TestWhatForbidsUserNamespacesIsFound(t *testing.T) {
	for _, tt := range []struct{ file, text, found, mend string }{
		{"proc/sys/user/max_user_namespaces", "0\n", "/proc/sys/user/max_user_namespaces is 0", "sysctl -w user.max_user_namespaces=10000"},
		{"proc/sys/user/max_user_namespaces", "10000\n", "", ""},
		{"proc/sys/kernel/unprivileged_userns_clone", "0\n", "/proc/sys/kernel/unprivileged_userns_clone is 0", "sysctl -w kernel.unprivileged_userns_clone=1"},
		{"proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n", "/proc/sys/kernel/apparmor_restrict_unprivileged_userns is 1", " && apparmor_parser -r /etc/apparmor.d/"},
		{"sys/fs/selinux/enforce", "1", "/sys/fs/selinux/enforce is 1", "audit2allow"},
		{"sys/fs/selinux/enforce", "0", "", ""},
	} {
		root := t.TempDir()
		file := filepath.Join(root, tt.file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(tt.text), 0o644)); err != nil {
			t.Fatal(err)
		}
		if found, mend := usernamespace.Forbidden(root); found != tt.found || !strings.Contains(mend, tt.mend) {
			t.Errorf("with %s being %q Forbidden = %q, %q; want %q, %q", tt.file, tt.text, found, mend, tt.found, tt.mend)
		}
	}
}

func TestItEndsWithTheLessonsStatus(t *testing.T) {
	u := testenv.OrdinaryUser(t, "")
	out, err := output(t, u, "exit")
	var exit interface{ ExitCode() int }
	if !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("it ends with %v, %q; want 7", err, out)
	}
}

func TestSignalsReachTheLesson(t *testing.T) {
	u := testenv.OrdinaryUser(t, "")
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGKILL} {
		cmd := u.Command([]string{beLesson + "=1"}, "/proc/self/exe", "wait")
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		lines.Scan()
		lines.Scan()
		pid, err := strconv.Atoi(strings.TrimPrefix(lines.Text(), "pid "))
		if err != nil {
			t.Fatalf("it says %q", lines.Text())
		}
		cmd.Process.Signal(sig)
		if got := lines.Scan(); got != (sig != unix.SIGKILL) {
			t.Errorf("after %v the lesson has cleaned up: %v", sig, got)
		}
		cmd.Wait()
		for deadline := time.Now().Add(10 * time.Second); unix.Kill(pid, 0) == nil; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("after %v the lesson still runs", sig)
			}
		}
	}
}

// harm is what root of a user namespace may not do to the machine. The folder is the machine's root's.
var harm = []struct {
	what string
	do   func(folder string) error
	want error
}{
	{"read root's file", func(folder string) error { _, err := os.ReadFile(folder + "/secret"); return err }, fs.ErrPermission},
	{"write in root's folder", func(folder string) error { return os.WriteFile(folder+"/new", nil, 0o644) }, fs.ErrPermission},
	{"become root of the machine", func(string) error { return unix.Setuid(testenv.FirstSubID + testenv.SubIDs + 5) }, unix.EINVAL},
	{"give a file to root of the machine", func(string) error {
		file := os.Getenv("HOME") + "/mine"
		os.WriteFile(file, nil, 0o644)
		return os.Chown(file, 1<<20, 1<<20)
	}, unix.EINVAL},
	{"kill a process of root", func(string) error { return unix.Kill(1, 0) }, unix.EPERM},
	{"look into a process of root", func(string) error { return unix.PtraceAttach(1) }, unix.EPERM},
	{"make a device", func(string) error {
		return unix.Mknod(os.Getenv("HOME")+"/disk", unix.S_IFBLK|0o666, int(unix.Mkdev(8, 0)))
	}, unix.EPERM},
	{"set the clock", func(string) error {
		var now unix.Timespec
		unix.ClockGettime(unix.CLOCK_REALTIME, &now)
		return unix.ClockSettime(unix.CLOCK_REALTIME, &now)
	}, unix.EPERM},
	{"set the host name", func(string) error { return unix.Sethostname([]byte("mine")) }, unix.EPERM},
	{"set a parameter of the kernel", func(string) error { return os.WriteFile("/proc/sys/kernel/panic", []byte("0"), 0) }, fs.ErrPermission},
	{"change what Ctrl-Alt-Del does", func(string) error { return unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF) }, unix.EPERM},
	{"make the network another", func(string) error {
		s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		if err == nil {
			unix.Close(s)
		}
		return err
	}, unix.EPERM},
	{"mount a disk", func(folder string) error { return unix.Mount("none", folder, "ext4", 0, "") }, unix.EPERM},
	{"write the map again", func(string) error { return os.WriteFile("/proc/self/uid_map", []byte("0 0 1"), 0) }, unix.EPERM},
	{"leave the user namespace", func(string) error {
		ns, err := os.Open("/proc/1/ns/user")
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWUSER)
			ns.Close()
		}
		return err
	}, fs.ErrPermission},
	{"uncover what is below a mount", func(string) error { return unix.Unmount("/proc", unix.MNT_DETACH) }, unix.EINVAL},
}

func TestRootInsideIsNobodyOutside(t *testing.T) {
	for _, subids := range []string{"", testenv.Subids()} {
		t.Run("subuid "+subids, func(t *testing.T) {
			u := testenv.OrdinaryUser(t, subids)
			folder := t.TempDir()
			if err := errors.Join(os.Chmod(filepath.Dir(folder), 0o755), os.Chmod(folder, 0o755), os.WriteFile(folder+"/secret", nil, 0o600)); err != nil {
				t.Fatal(err)
			}
			out, err := output(t, u, "harm", folder)
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			for _, h := range harm {
				if !strings.Contains(out, h.what+": refused true") {
					t.Errorf("%s: want %v; it says:\n%s", h.what, h.want, out)
				}
			}
		})
	}
}
