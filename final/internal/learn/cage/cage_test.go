//go:build linux

package cage

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/testenv"
)

func TestMain(m *testing.M) {
	if os.Getenv("KILLED") != "" {
		_, err := New()
		fmt.Println(err)
		unix.Kill(os.Getpid(), unix.SIGKILL)
	}
	testenv.Alone()
	os.Exit(m.Run())
}

// What wrong programs do to a machine, and what is said of it.
func TestTheMachineSurvivesAWrongProgram(t *testing.T) {
	testenv.NeedRoot(t)
	for _, tt := range []struct {
		what, script string
		is           func(c *Cage, o Outcome, left Left) bool
	}{
		{"it ends with its status", "echo out; echo err >&2; exit 7", func(_ *Cage, o Outcome, left Left) bool {
			return o.Stdout == "out\n" && o.Stderr == "err\n" && o.Status == 7 && len(left.Mounts)+len(left.Unmounted)+len(left.Processes)+len(left.Cgroups) == 0
		}},
		{"it unmounts / lazily", "umount -l /", func(_ *Cage, _ Outcome, left Left) bool { return slices.Contains(left.Unmounted, "overlay on /") }},
		{"it leaves a mount", "mkdir /learn/m && mount -t tmpfs tmpfs /learn/m", func(_ *Cage, _ Outcome, left Left) bool {
			return slices.Equal(left.Mounts, []string{"tmpfs on /learn/m"})
		}},
		{"its copy of the mounts is not private", "unshare --mount --propagation unchanged mount -t tmpfs tmpfs /mnt", func(_ *Cage, _ Outcome, left Left) bool {
			return slices.Equal(left.Mounts, []string{"tmpfs on /mnt"})
		}},
		{"it forks until it cannot", "i=0; while [ $i -lt 1000 ]; do sleep 600 & i=$((i+1)); done", func(c *Cage, _ Outcome, left Left) bool {
			return c.Reached() == "pids" && len(left.Processes) > 50
		}},
		{"it writes ten gigabytes", "head -c 10G /dev/zero > /learn/big", func(c *Cage, o Outcome, _ Left) bool { return c.Reached() == "disk" && o.Status != 0 }},
		{"it never ends", "sleep 600", func(_ *Cage, o Outcome, _ Left) bool { return o.Late }},
		{"it removes all files", "rm -rf /usr/bin /etc /learn 2>/dev/null; exit 3", func(_ *Cage, o Outcome, _ Left) bool { return o.Status == 3 }},
		{"it leaves a process", "sleep 600 & exit 0", func(_ *Cage, _ Outcome, left Left) bool {
			return slices.Equal(left.Processes, []string{"sleep 600"})
		}},
		{"it changes a file of the machine", "echo x > /etc/passwd", func(c *Cage, _ Outcome, _ Left) bool {
			changed, err := c.Changed()
			return err == nil && slices.Equal(changed, []string{"/etc/passwd"})
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
