//go:build linux

package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A User is an ordinary user of this machine. Only processes in the tests' mount namespace know of it.
type User struct{ Home string }

// UserID is the number of this user, and of its group. Ids from FirstSubID on are given to it in /etc/subuid and subgid, SubIDs of them.
const (
	UserID     = 61234
	FirstSubID = 700000
	SubIDs     = 65536
)

// OrdinaryUser makes an ordinary user, with the lines that it is to have in /etc/subuid and /etc/subgid. The tests are
// Alone: nobody else sees that /etc has other files.
func OrdinaryUser(t testing.TB, subids string) User {
	t.Helper()
	NeedMachinesRoot(t, "it makes another user")
	if os.Getenv(stage) != "tests" {
		t.Fatal("an ordinary user is for tests that are Alone")
	}
	dir := t.TempDir()
	for name, line := range map[string]string{
		"passwd": fmt.Sprintf("learner:x:%d:%[1]d::%s:/bin/sh\n", UserID, dir),
		"group":  fmt.Sprintf("learner:x:%d:\n", UserID),
		"subuid": subids, "subgid": subids,
	} {
		etc := filepath.Join("/etc", name)
		before, err := os.ReadFile(etc)
		if os.IsNotExist(err) && line == "" {
			continue
		}
		made := os.IsNotExist(err) && os.WriteFile(etc, nil, 0o644) == nil // there is nothing to mount on: the machine never used it
		file := filepath.Join(dir, name)
		err = os.WriteFile(file, append(before, line...), 0o644)
		if err == nil {
			err = unix.Mount(file, etc, "", unix.MS_BIND, "")
		}
		if err != nil {
			t.Fatalf("give /etc/%s another line: %v", name, err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(etc, unix.MNT_DETACH); err != nil {
				t.Errorf("unmount %q: %v", etc, err)
			}
			if made {
				os.Remove(etc)
			}
		})
	}
	openTun(t, filepath.Join(dir, "tun"))
	home := filepath.Join(dir, "home")
	for _, err := range []error{os.Mkdir(home, 0o700), os.Chown(home, UserID, UserID), os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return User{home}
}

// openTun has the device for networks of programs as udev makes it, for all users, where it is root's only.
func openTun(t testing.TB, file string) {
	const device = "/dev/net/tun"
	info, err := os.Stat(device)
	if err != nil || info.Mode()&0o006 == 0o006 {
		return
	}
	err = unix.Mknod(file, unix.S_IFCHR|0o666, int(info.Sys().(*syscall.Stat_t).Rdev))
	if err == nil {
		err = os.Chmod(file, 0o666)
	}
	if err == nil {
		err = unix.Mount(file, device, "", unix.MS_BIND, "")
	}
	if err != nil {
		t.Fatalf("open %s for users: %v", device, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(device, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %q: %v", device, err)
		}
	})
}

// Subids are lines for OrdinaryUser: a range.
func Subids() string { return fmt.Sprintf("learner:%d:%d\n", FirstSubID, SubIDs) }

// Command is a command of the user, with a short environment and with that of env beside it.
func (u User) Command(env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Dir = "/"
	for _, v := range os.Environ() { // what the tests' own processes know each other by
		if strings.HasPrefix(v, "GOCKER_TEST_") || strings.HasPrefix(v, "PATH=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(append(cmd.Env, "HOME="+u.Home, "TMPDIR="+u.Home), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: UserID, Gid: UserID, Groups: []uint32{UserID}}}
	return cmd
}
