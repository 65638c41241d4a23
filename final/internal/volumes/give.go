//go:build linux

package volumes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step03-layers/merged"
)

// ErrNotToGive says that a folder is the machine's or a user's whole home, and nobody is to own all of it.
var ErrNotToGive = errors.New("all in there would belong to the container's user")

// machines are folders that podman does not give to a container's user either.
var machines = strings.Fields(`/ /bin /boot /dev /etc /etc/passwd /etc/pki /etc/shadow /home /lib /lib64 /media /opt /proc /root /run /sbin /srv /sys /tmp
	/usr /var /var/lib /var/log`)

// Give gives a file or folder, and all that is in it, to a user and a group. It follows no link in there.
func Give(source string, uid, gid int) error {
	fd, err := unix.Open(source, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %q: %w", source, err)
	}
	top := os.NewFile(uintptr(fd), source)
	defer top.Close()
	// The name of what is open: another process may put something else in the place of source.
	real, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return err
	}
	home, _ := filepath.EvalSymlinks(os.Getenv("HOME"))
	if slices.Contains(append(machines, home), real) {
		return advice.Add(fmt.Errorf("change the owner of %q: %w", real, ErrNotToGive), "name a folder in there")
	}
	info, err := top.Stat()
	if err != nil {
		return err
	}
	if err := give(top, "", info, uid, gid); err != nil || !info.IsDir() {
		return err
	}
	return merged.Walk(merged.In(top, ""), func(name string, dir *os.File, entry fs.DirEntry) error {
		info, err := entry.Info()
		if err == nil {
			err = give(dir, entry.Name(), info, uid, gid)
		}
		if merged.Moved(err) {
			return nil
		}
		return err
	})
}

// give gives away a file in an open folder or, without a name, the open file itself. A file that has the right owner stays as it
// is: chown(2) takes the setuid bit away.
func give(dir *os.File, name string, info fs.FileInfo, uid, gid int) error {
	if stat := info.Sys().(*syscall.Stat_t); int(stat.Uid) == uid && int(stat.Gid) == gid {
		return nil
	}
	if err := unix.Fchownat(int(dir.Fd()), name, uid, gid, unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH); err != nil {
		return fmt.Errorf("change the owner of %q in %q: %w", name, dir.Name(), err)
	}
	return nil
}
