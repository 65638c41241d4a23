//go:build linux

package cage

import (
	"context"
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

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/lesson"
	"gocker/step01-pull/shared/testenv"
	"gocker/step03-layers/usernamespace"
	"gocker/step06-cgroups/cgrouptest"
)

// asUser is set for a process of the tests that an ordinary user started.
const asUser = "GOCKER_TEST_AS_USER"

func TestMain(m *testing.M) {
	if os.Getenv("KILLED") != "" {
		_, err := New()
		fmt.Println(err)
		unix.Kill(os.Getpid(), unix.SIGKILL)
	}
	if os.Getenv(asUser) != "" {
		lesson.Main("tests", usernamespace.Enter(func(context.Context, io.Reader, io.Writer, []string) error {
			if status := m.Run(); status != 0 {
				return lesson.Exit(status)
			}
			return nil
		}))
		return
	}
	testenv.Alone()
	os.Exit(m.Run())
}

// What wrong programs do to a machine, and what is said of it.
func TestTheMachineSurvivesAWrongProgram(t *testing.T) {
	testenv.NeedRoot(t)
	file, isUser := "/etc/passwd", os.Getenv(asUser) != ""
	if isUser {
		file = os.Getenv(asUser)
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		what, script string
		is           func(c *Cage, o Outcome, left Left) bool
	}{
		{"it ends with its status", "echo out; echo err >&2; exit 7", func(_ *Cage, o Outcome, left Left) bool {
			return o.Stdout == "out\n" && o.Stderr == "err\n" && o.Status == 7 && len(left.Mounts)+len(left.Unmounted)+len(left.Processes)+len(left.Cgroups) == 0
		}},
		{"it unmounts / lazily", "umount -l /", func(_ *Cage, o Outcome, left Left) bool {
			return slices.Contains(left.Unmounted, "overlay on /") || isUser && o.Status != 0 // the kernel lets a user take away no root
		}},
		{"it leaves a mount", "mkdir /learn/m && mount -t tmpfs tmpfs /learn/m", func(_ *Cage, _ Outcome, left Left) bool {
			return slices.Equal(left.Mounts, []string{"tmpfs on /learn/m"})
		}},
		{"its copy of the mounts is not private", "unshare --mount --propagation unchanged mount -t tmpfs tmpfs /mnt", func(_ *Cage, _ Outcome, left Left) bool {
			return slices.Equal(left.Mounts, []string{"tmpfs on /mnt"})
		}},
		{"it forks until it cannot", "i=0; while [ $i -lt 2000 ]; do sleep 600 & i=$((i+1)); done", func(c *Cage, o Outcome, left Left) bool {
			return (c.Reached() == "pids" || c.NoCgroup() != nil && o.Status != 0) && len(left.Processes) > 50 && len(left.Processes) < 2000
		}},
		{"it writes ten gigabytes", "head -c 10G /dev/zero > /learn/big", func(c *Cage, o Outcome, _ Left) bool { return c.Reached() == "disk" && o.Status != 0 }},
		{"it never ends", "sleep 600", func(_ *Cage, o Outcome, _ Left) bool { return o.Late }},
		{"it removes all files", "rm -rf /usr/bin /etc /learn 2>/dev/null; exit 3", func(_ *Cage, o Outcome, _ Left) bool { return o.Status == 3 }},
		{"it leaves a process", "sleep 600 & exit 0", func(_ *Cage, _ Outcome, left Left) bool {
			return slices.Equal(left.Processes, []string{"sleep 600"})
		}},
		{"it changes a file of the machine", "echo x > " + file, func(c *Cage, o Outcome, _ Left) bool {
			changed, err := c.Changed()
			return err == nil && (slices.Equal(changed, []string{file}) || isUser && o.Status != 0) // a folder above it may be somebody else's
		}},
		{"it makes a file", "echo x > /new; echo x > /var/new", func(c *Cage, _ Outcome, _ Left) bool {
			changed, err := c.Changed()
			slices.Sort(changed)
			return err == nil && slices.Equal(changed, []string{"/new", "/var/new"})
		}},
		{"it reads the disk", "n=/dev/disk; mknod $n b $(stat -c '%Hd %Ld' /) && head -c 1 $n", func(_ *Cage, o Outcome, _ Left) bool {
			return o.Status != 0 && strings.Contains(o.Stderr, "not permitted")
		}},
	} {
		t.Run(tt.what, func(t *testing.T) {
			c, err := New()
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			}()
			most := time.Minute
			if tt.what == "it never ends" {
				most = time.Second
			}
			o, err := c.Run([]string{"/bin/sh", "-c", tt.script}, most)
			if err != nil {
				t.Fatal(err)
			}
			left, err := c.Left()
			if err != nil || !tt.is(c, o, left) {
				t.Errorf("%s: %+v, left %+v, %v, reached %q", tt.script, o, left, err, c.Reached())
			}
		})
	}
	if left := left(t); len(left) > 0 {
		t.Errorf("it is left: %q", left)
	}
	if _, err := os.Stat("/usr/bin"); err != nil {
		t.Error(err)
	}
	if after, err := os.ReadFile(file); err != nil || string(after) != string(before) {
		t.Errorf("%s is %q, %v; want %q", file, after, err, before)
	}
}

// A user's cage has a cgroup only where root has delegated one.
func TestAUsersFilesSurviveAWrongProgram(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap")
	for _, tt := range []struct{ what, subids, tests string }{
		{"with a cgroup and more ids", testenv.Subids(), "Survives|Killed"},
		{"with none of both", "", "Survives"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			u := testenv.OrdinaryUser(t, tt.subids)
			file, program := filepath.Join(u.Home, "mine"), filepath.Join(u.Home, "cage.test")
			tmp := filepath.Join(u.Home, filepath.Base(os.TempDir())) // by which left knows what is ours
			self, err := os.ReadFile("/proc/self/exe")
			if err := errors.Join(err, os.WriteFile(program, self, 0o755), os.WriteFile(file, []byte("mine"), 0o644), os.Chown(file, testenv.UserID, testenv.UserID),
				os.Mkdir(tmp, 0o755), os.Chown(tmp, testenv.UserID, testenv.UserID)); err != nil {
				t.Fatal(err)
			}
			cmd := u.Command([]string{asUser + "=" + file, "HOME=/", "TMPDIR=" + tmp}, program, "-test.run="+tt.tests) // Changed leaves out the home folder
			cmd.Dir = u.Home
			if tt.subids != "" {
				cmd = cgrouptest.In(cgrouptest.Delegated(t), cmd)
			}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v:\n%s", err, out)
			}
		})
	}
}

// left are the folders and cgroups of cages of this test: others have cages meanwhile.
func left(t *testing.T) []string {
	t.Helper()
	folders, err := filepath.Glob(os.TempDir() + "/gocker-cage*")
	if err != nil {
		t.Fatal(err)
	}
	ours := "gocker-learn-" + filepath.Base(os.TempDir()) + "-"
	return append(folders, testenv.Cgroups(func(name string) bool { return strings.HasPrefix(name, ours) })...)
}

func TestTheNextCageRemovesWhatAKilledOneLeft(t *testing.T) {
	testenv.NeedRoot(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "KILLED=yes")
	if out, err := cmd.Output(); err == nil || string(out) != "<nil>\n" {
		t.Fatalf("a process that kills itself says %q, %v", out, err)
	}
	if left := left(t); len(left) < 2 {
		t.Errorf("there is %q; want a folder and a cgroup", left)
	}
	theirs := os.TempDir() + "/gocker-cage1"
	if err := errors.Join(os.Mkdir(theirs, 0o755), os.WriteFile(theirs+"/cgroups", []byte(":/sys/fs/cgroup/theirs"), 0o644), os.Chown(theirs, 1000, 1000)); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(theirs)
	c, err := New()
	if err != nil {
		t.Fatal(err)
	}
	second, err := New() // it leaves one that is alive alone
	if err != nil {
		t.Fatal(err)
	}
	if o, err := c.Run([]string{"true"}, time.Minute); err != nil || o.Status != 0 {
		t.Errorf("a cage beside another: %+v, %v", o, err)
	}
	if err := errors.Join(c.Close(), second.Close()); err != nil {
		t.Error(err)
	}
	if left := left(t); !slices.Equal(left, []string{theirs}) {
		t.Errorf("it is left: %q; want another user's folder alone", left)
	}
}
