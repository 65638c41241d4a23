//go:build linux

package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/testenv"
)

// attacks are what root of a user's container tries against the machine: sh in the container, which has the machine's files at /host
// and a disk that is mounted read-only at /disk. Each ends with a status other than 0.
var attacks = []struct{ name, script string }{
	{"read a file that is root's alone", `cat /host$SECRETS/secret`},
	{"read a file that is closed for the user's group alone", `cat /host$SECRETS/negative`},
	{"change a file that all may read", `echo x >>/host$SECRETS/public`},
	{"give itself a file of root's", `chown 0:0 /host$SECRETS/public`},
	{"make a file of somebody's who has no number", `touch /tmp/f && chown 200000 /tmp/f`},
	{"hard link to a file of root's, in a folder of its own", `ln /host$SECRETS/secret /host$USERS/link && cat /host$USERS/link`},
	{"write the map of ids again", `echo 0 0 1 >/proc/self/uid_map`},
	{"map ids that are not the user's, in a namespace below", `unshare --user sh -c 'sleep 5' & sleep 0.3; echo "0 0 4294967295" >/proc/$!/uid_map`},
	{"allow setgroups where it is denied", `grep -q allow /proc/self/setgroups || echo allow >/proc/self/setgroups; echo deny >/proc/self/setgroups`},
	{"write on a disk that is mounted read-only", `echo x >/disk/x`},
	{"mount it anew, to be written", `mount -o remount,rw,bind /disk && echo x >/disk/x`},
	{"mount it anew, all of it", `mount -o remount,rw /disk`},
	{"mount a real disk", `mount -t ext4 /host/dev/vda /mnt || mount -t ext4 /host/dev/sda /mnt`},
	{"uncover what the machine's root has covered", `umount /host$COVERED && ls /host$COVERED | grep below`},
	{"uncover it in a mount of its own", `mkdir -p /m && mount --bind /host${COVERED%/*} /m && ls /m/covered | grep below`},
	{"set a parameter of the machine's kernel", `echo 1 >/proc/sys/kernel/panic`},
	{"set it by a proc file system of its own", `mkdir -p /p && mount -t proc proc /p && echo 1 >/p/sys/kernel/panic`},
	{"set it by the machine's proc file system", `echo 1 >/host/proc/sys/kernel/panic`},
	{"set a device's attribute in sysfs", `echo 1 >/sys/kernel/profiling || echo 1 >/sys/module/kernel/parameters/panic`},
	{"make the device of the machine's memory", `mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem`},
	{"open a device of root's", `head -c 1 /host$SECRETS/device`},
	{"open the kernel's log", `head -c 1 /host/dev/kmsg`},
	{"open a socket of root's", `exec 3<>/host$SECRETS/socket`},
	{"kill a process of the machine", `kill -9 $HOSTPID`},
	{"look into a process of the machine", `ls /host/proc/$HOSTPID/root/etc`},
	{"rename the machine", `echo mine >/host/proc/sys/kernel/hostname`},
	{"be root in a program that is setuid on the machine", `/host$SECRETS/setuid /host$SECRETS/secret`},
}

// prepare makes what the attacks are on. It is root's, and the user can come as far as the folders' names.
func prepare(t *testing.T, u testenv.User) (environment string) {
	t.Helper()
	base := filepath.Dir(u.Home)
	secrets, users, covered, disk := filepath.Join(base, "secrets"), filepath.Join(u.Home, "users"), filepath.Join(base, "covered"), filepath.Join(base, "disk")
	cat, err := os.ReadFile("/bin/cat")
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.Mkdir(secrets, 0o755), os.Mkdir(users, 0o777), os.Mkdir(covered, 0o755), os.Mkdir(disk, 0o755), os.Chmod(users, 0o777),
		os.WriteFile(secrets+"/secret", []byte("keep out\n"), 0o600),
		os.WriteFile(secrets+"/public", []byte("as it was\n"), 0o644),
		os.WriteFile(secrets+"/negative", []byte("keep out\n"), 0o604), os.Chown(secrets+"/negative", 0, testenv.UserID),
		os.WriteFile(secrets+"/setuid", cat, 0o755), os.Chmod(secrets+"/setuid", 0o4755),
		unix.Mknod(secrets+"/device", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))),
		os.WriteFile(covered+"/below", nil, 0o644), unix.Mount("tmpfs", covered, "tmpfs", 0, ""),
		unix.Mount("tmpfs", disk, "tmpfs", 0, "mode=777"), unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_BIND, ""),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { unix.Unmount(covered, unix.MNT_DETACH); unix.Unmount(disk, unix.MNT_DETACH) })
	listener, err := net.Listen("unix", secrets+"/socket")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return fmt.Sprintf("-e SECRETS=%s -e USERS=%s -e COVERED=%s -e HOSTPID=%d -v /:/host -v %s:/disk", secrets, users, covered, os.Getpid(), disk)
}

func TestRootOfAUsersContainerCannotHarmTheMachine(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap")
	for _, subids := range []string{testenv.Subids(), ""} {
		u := testenv.OrdinaryUser(t, subids)
		run := "gocker run --rm --network none " + prepare(t, u)
		for _, flags := range []string{"", "--privileged"} {
			t.Run(fmt.Sprintf("subids %q %s", subids, flags), func(t *testing.T) {
				var script strings.Builder
				for i, a := range attacks {
					fmt.Fprintf(&script, "if ( %s ) >/tmp/out 2>&1; then echo 'succeeded %d:'; cat /tmp/out; fi\n", a.script, i)
				}
				script.WriteString("echo all tried\n")
				file := filepath.Join(u.Home, "attacks")
				if err := os.WriteFile(file, []byte(script.String()), 0o644); err != nil {
					t.Fatal(err)
				}
				out := asUser(t, u, fmt.Sprintf("%s %s -v %s:/attacks sample sh /attacks 2>&1", run, flags, file))
				if !strings.Contains(out, "all tried\n") {
					t.Errorf("not all was tried:\n%s", out)
				}
				for i, a := range attacks {
					if mark := fmt.Sprintf("succeeded %d:\n", i); strings.Contains(out, mark) {
						_, what, _ := strings.Cut(out, mark)
						t.Errorf("root of a container can %s: %s", a.name, strings.SplitN(what, "succeeded", 2)[0])
					}
				}
			})
		}
	}
}
