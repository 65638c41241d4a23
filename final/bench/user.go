//go:build linux

package bench

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A User is an ordinary user of this machine, who is known in the mounts of OwnMounts only.
type User struct {
	Home string
	env  []string
}

const userID, firstSubID = 61234, 700000 // nobody's

// NewUser makes one with 65536 ids, whose home is in a folder, and who may open the device for networks of programs.
func NewUser(dir string) (*User, error) {
	u := &User{Home: filepath.Join(dir, "home")}
	run := fmt.Sprint("/run/user/", userID)
	u.env = []string{"HOME=" + u.Home, "XDG_RUNTIME_DIR=" + run, "PATH=" + os.Getenv("PATH")}
	err := cmp.Or(os.Chmod(dir, 0o755), os.Mkdir(u.Home, 0o700), os.Chown(u.Home, userID, userID), os.MkdirAll(run, 0o755), os.Chown(run, userID, userID))
	if err != nil {
		return nil, err
	}
	subids := fmt.Sprintf("learner:%d:65536\n", firstSubID)
	for name, line := range map[string]string{
		"passwd": fmt.Sprintf("learner:x:%d:%[1]d::%s:/bin/sh\n", userID, u.Home),
		"group":  fmt.Sprintf("learner:x:%d:\n", userID),
		"subuid": subids, "subgid": subids,
	} {
		etc, file := filepath.Join("/etc", name), filepath.Join(dir, name)
		before, err := os.ReadFile(etc)
		if err := cmp.Or(err, os.WriteFile(file, append(before, line...), 0o644), unix.Mount(file, etc, "", unix.MS_BIND, "")); err != nil {
			return nil, fmt.Errorf("give %s another line: %w", etc, err)
		}
	}
	const tun, device = "/run/tun", 10<<8 | 200 // see the kernel's Documentation/admin-guide/devices.txt
	err = cmp.Or(unix.Mknod(tun, unix.S_IFCHR|0o666, device), os.Chmod(tun, 0o666), unix.Mount(tun, "/dev/net/tun", "", unix.MS_BIND, ""))
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun for users: %w", err)
	}
	return u, nil
}

// Do is Do for this user.
func (u *User) Do(args ...string) error { return do(Contender{Args: args, As: u}.Command()) }
