//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

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
	{"read the memory of a process of the machine", `head -c 1 /host/proc/$HOSTPID/mem || cat /host/proc/$HOSTPID/environ || ls /host/proc/$HOSTPID/fd`},
	// With all capabilities it may: behind the covers is what every user sees.
	{"uncover what gocker has covered in /proc", `[ -z "$ALL" ] && covers=$(grep -o ' /proc/[^ ]*' /proc/self/mountinfo) && for c in $covers; do umount $c && exit; done; false`},
	{"uncover it in a namespace below", `[ -z "$ALL" ] && grep -q ' /proc/' /proc/self/mountinfo && unshare --user --map-root-user --mount --pid --fork mount -t proc proc /mnt`},
	{"set the clock", `date -s @$(date +%s)`},
	{"set the clock by a call", `/probe attack clock`},
	{"load a module", `/probe attack module`},
	{"load another kernel", `/probe attack kexec`},
	{"swap to a file", `/probe attack swap`},
	{"read a key of root's", `/probe attack key $KEY`},
}

// powers are what root of the user's namespaces tries there, outside of any container: it sees all processes of the machine.
var powers = []struct{ name, script string }{
	{"kill a process of root's", `kill -0 $HOSTPID`},
	{"trace a process of root's", `$PROBE attack trace $HOSTPID`},
	{"look into a process of root's", `ls /proc/$HOSTPID/root/etc`},
	{"join the namespaces of a process of root's", `nsenter --target $HOSTPID --uts true || nsenter --target $HOSTPID --net true`},
	{"kill a process of another user's container", `kill -0 $OTHERPID`},
	{"trace it", `$PROBE attack trace $OTHERPID`},
	{"see its files", `ls /proc/$OTHERPID/root/etc || ls $OTHERHOME/.local`},
	{"see its files through another overlay", `mount -t overlay x -o userxattr,lowerdir=$OTHERHOME:/etc /mnt && ls /mnt/.local`},
	{"join its network", `nsenter --target $OTHERPID --net true`},
	{"be root in its user namespace", `nsenter --target $OTHERPID --user true`},
	{"rename the machine", `hostname $(hostname)`},
	{"set the clock", `date -s @$(date +%s)`},
	{"load a module", `$PROBE attack module`},
	{"read a key of root's", `$PROBE attack key $KEY`},
	{"set a parameter of the machine's kernel", `echo 1 >/proc/sys/kernel/panic`},
	{"add a device to the machine's network", `ip link add attack0 type veth peer name attack1 || ip link set lo mtu 65535`},
	{"listen for all packets of the machine", `$PROBE attack packets`},
}

// inSession executes gocker with a key in its session keyring, whose number is in its environment.
func inSession(args []string) error {
	runtime.LockOSThread()
	_, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0)
	if err != nil {
		return err
	}
	key, err := unix.AddKey("user", "gocker-test", []byte("keep out"), unix.KEY_SPEC_SESSION_KEYRING)
	if err != nil {
		return err
	}
	os.Setenv("BE", "gocker")
	os.Setenv("KEY", fmt.Sprint(key))
	return syscall.Exec("/proc/self/exe", append([]string{"gocker"}, args...), os.Environ())
}

func TestContainersDoNotGetTheKeysOfWhoStartsThem(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap")
	if _, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_USER_KEYRING, true); err != nil {
		testenv.Lacks(t, "keys: "+err.Error())
	}
	u := testenv.OrdinaryUser(t, testenv.Subids())
	out := asUser(t, u, `
unconfined="--network none --security-opt seccomp=unconfined -e BE=probe -v $HOME/gocker:/probe"
say() { printf '%s: ' "$1"; shift; "$@" 2>&1 || echo "status $?"; }
say own env BE=probe gocker session unshare sh -c 'BE=probe $HOME/gocker attack key $KEY'
say run env BE=probe gocker session run --rm $unconfined -e KEY sample sh -c '/probe attack key $KEY'
gocker run -d --name one $unconfined sample sleep 1000 >/dev/null
say exec env BE=probe gocker session exec -e KEY one sh -c '/probe attack key $KEY'
gocker rm -f one
`)
	testenv.InOrder(t, out, "own: key <nil>\n", "run: ", "key permission denied\nstatus 1\n", "exec: key permission denied\nstatus 1\n", "one\n")
}

// attack is one that a shell has no program for. It exits with 0 if the kernel has not refused it, whatever else it says.
func attack(name, argument string) {
	number, _ := strconv.Atoi(argument)
	var err error
	switch name {
	case "clock":
		var now unix.Timespec
		unix.ClockGettime(unix.CLOCK_REALTIME, &now)
		err = unix.ClockSettime(unix.CLOCK_REALTIME, &now)
	case "module":
		err = unix.InitModule([]byte("no module"), "")
	case "kexec":
		_, _, errno := unix.Syscall6(unix.SYS_KEXEC_LOAD, 0, 0, 0, 0, 0, 0)
		err = errno
	case "swap":
		path, _ := unix.BytePtrFromString("/etc/passwd")
		_, _, errno := unix.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(path)), 0, 0)
		err = errno
	case "key":
		_, err = unix.KeyctlBuffer(unix.KEYCTL_READ, number, make([]byte, 100), 0)
	case "trace":
		err = unix.PtraceSeize(number)
	case "packets":
		_, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	}
	fmt.Println(name, err)
	if errors.Is(err, os.ErrPermission) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENOKEY) {
		os.Exit(1)
	}
	os.Exit(0)
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
	return fmt.Sprintf("-e BE=probe -v %s/gocker:/probe -e KEY=%d -e SECRETS=%s -e USERS=%s -e COVERED=%s -e HOSTPID=%d -v /:/host -v %s:/disk",
		u.Home, keyOfRoot(t), secrets, users, covered, os.Getpid(), disk)
}

// keyOfRoot is the number of a key that is root's.
func keyOfRoot(t *testing.T) int {
	t.Helper()
	key, err := unix.AddKey("user", "gocker-test", []byte("keep out"), unix.KEY_SPEC_USER_KEYRING)
	if errors.Is(err, unix.ENOSYS) {
		return 1 // no kernel without keys shows one
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.KeyctlInt(unix.KEYCTL_INVALIDATE, key, 0, 0, 0) })
	if _, err := unix.KeyctlInt(unix.KEYCTL_SETPERM, key, 0x3f3f0000, 0, 0); err != nil { // all is for its owner
		t.Fatal(err)
	}
	return key
}

func TestRootOfAUsersContainerCannotHarmTheMachine(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap")
	for _, subids := range []string{testenv.Subids(), ""} {
		u := testenv.OrdinaryUser(t, subids)
		run := "gocker run --rm --network none " + prepare(t, u)
		for _, flags := range []string{"", "--cap-add ALL --security-opt seccomp=unconfined -e ALL=yes", "--privileged"} {
			t.Run(fmt.Sprintf("subids %q %s", subids, flags), func(t *testing.T) {
				file := tries(t, u, attacks)
				out := asUser(t, u, fmt.Sprintf("%s %s -v %s:/attacks sample sh /attacks 2>&1", run, flags, file))
				noneSucceeded(t, out, attacks)
			})
		}
	}
}

// Another user has a container, and a home that others may go through, but not read.
func TestRootOfAUsersNamespacesHasNoPowerOverOthers(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap", "nsenter", "ip", "hostname")
	u := testenv.OrdinaryUser(t, testenv.Subids())
	asUser(t, u, "gocker pull -q sample")
	const id = testenv.UserID + 1
	home := t.TempDir()
	if err := errors.Join(os.Chmod(filepath.Dir(home), 0o755), os.Chown(home, id, id), os.Chmod(home, 0o700)); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(filepath.Dir(u.Home), "gocker") // beside the home, which is closed for others
	if err := os.Link(filepath.Join(u.Home, "gocker"), program); err != nil {
		t.Fatal(err)
	}
	other := func(script string) string {
		t.Helper()
		cmd := testenv.User{Home: home}.Command([]string{"BE=gocker", "PATH=" + filepath.Dir(program) + ":" + os.Getenv("PATH")}, "sh", "-c", script)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: id, Gid: id}
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return strings.TrimSpace(string(out))
	}
	pid := other("gocker run -d --name victim --network none sample sleep 1000 >/dev/null && gocker inspect -f '{{.State.Pid}}' victim")
	defer other("gocker rm -f victim")
	out := asUser(t, u, fmt.Sprintf("gocker unshare env BE=probe PROBE=$HOME/gocker KEY=%d HOSTPID=%d OTHERPID=%s OTHERHOME=%s sh %s 2>&1",
		keyOfRoot(t), os.Getpid(), pid, home, tries(t, u, powers)))
	noneSucceeded(t, out, powers)
	if out := other("gocker ps --format '{{.Names}} {{.State}}'"); out != "victim running" {
		t.Errorf("the other user's containers are %q", out)
	}
}

// tries is a script of attacks, which tells of those that succeed.
func tries(t *testing.T, u testenv.User, attacks []struct{ name, script string }) (file string) {
	t.Helper()
	var script strings.Builder
	for i, a := range attacks {
		fmt.Fprintf(&script, "if ( %s ) >$HOME/out 2>&1; then echo 'succeeded %d:'; cat $HOME/out; fi\n", a.script, i)
	}
	script.WriteString("echo all tried\n")
	file = filepath.Join(u.Home, "attacks")
	if err := os.WriteFile(file, []byte(script.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func noneSucceeded(t *testing.T, out string, attacks []struct{ name, script string }) {
	t.Helper()
	if !strings.Contains(out, "all tried\n") {
		t.Errorf("not all was tried:\n%s", out)
	}
	for i, a := range attacks {
		if mark := fmt.Sprintf("succeeded %d:\n", i); strings.Contains(out, mark) {
			_, what, _ := strings.Cut(out, mark)
			t.Errorf("root of a container can %s: %s", a.name, strings.SplitN(what, "succeeded", 2)[0])
		}
	}
}
