//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/testenv"
	"gocker/step06-cgroups/cgrouptest"
)

// asUser runs a script of an ordinary user who has a gocker, and returns what it prints.
func asUser(t *testing.T, u testenv.User, script string) string {
	t.Helper()
	return asUserIn(t, u, nil, script)
}

// asUserIn is asUser in these cgroups.
func asUserIn(t *testing.T, u testenv.User, cgroups []string, script string) string {
	t.Helper()
	gocker := filepath.Join(u.Home, "gocker")
	if _, err := os.Stat(gocker); err != nil {
		program, err := os.ReadFile("/proc/self/exe")
		if err == nil {
			err = os.WriteFile(gocker, program, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := u.Command([]string{"BE=gocker", "PATH=" + u.Home + ":" + os.Getenv("PATH")}, "sh", "-c", script)
	cmd.Dir = u.Home
	if cgroups != nil {
		cmd = cgrouptest.In(cgroups, cmd)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	return string(out)
}

// holders are the processes that hold the namespaces of a user.
func holders(t *testing.T) (pids []string) {
	t.Helper()
	out, _ := exec.Command("pgrep", "-x", "gocker-holder").Output() // nobody is status 1
	return strings.Fields(string(out))
}

func TestAnOrdinaryUserLivesWithContainers(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap", "pgrep")
	u := testenv.OrdinaryUser(t, testenv.Subids())
	out := asUser(t, u, `
say() { printf '%s: ' "$1"; shift; "$@" 2>&1 || echo "status $?"; }
say status gocker run --rm --network none sample sh -c 'exit 7'
say missing gocker run --rm --network none sample nosuch
say user gocker run --rm --network none -u 1000 sample id -u
say limit gocker run --rm --network none -m 64m sample true
say device gocker run --rm --network none --device /dev/fuse sample true
say host gocker run --rm --network host sample ls /sys/class/net
id=$(gocker run -d --name one --network none -v vol:/data sample sh -c 'echo started; touch /data/x; chown 7:7 /data/x; while :; do sleep 0.1; done')
until gocker logs one | grep started; do sleep 0.1; done
say ps gocker ps --format '{{.Names}} {{.Image}}'
say exec gocker exec one stat -c '%u' /data/x
say outside stat -c '%u' .local/share/gocker/volumes/vol/_data/x
say top gocker top one -o pid,args
say stats gocker stats --no-stream one
say pause gocker pause one
echo hello >file
say cp gocker cp file one:/tmp/file
say diff gocker diff one
say commit gocker commit --pause=false one mine:1
say again gocker run --rm --network none mine:1 cat /tmp/file
say stop gocker stop -t 0 one
say start gocker start one
say rm gocker rm -f one
id=$(gocker run -d --name asked --network none --health-cmd 'test -e /works' --health-interval 100ms --health-retries 1 sample sleep 1000)
say sick gocker wait --condition unhealthy asked
gocker exec asked touch /works
say well gocker wait --condition healthy asked
say asked gocker ps --filter health=healthy --format '{{.Names}} {{.Status}}'
say run gocker healthcheck run asked
gocker rm -f asked
id=$(gocker run -d --name late --network none --health-cmd 'sleep 777 & sleep 777' --health-interval 50ms --health-timeout 50ms --health-retries 2 sample sleep 1000)
say late gocker wait --condition unhealthy late
say probes sh -c 'test $(gocker top late -o pid,args | grep -c "sleep 777") -le 3 && echo few'
gocker rm -f late
say volume gocker volume rm vol
say pid gocker run --rm --network none --pid host sample true
say privileged gocker run --rm --network none --privileged sample sh -c 'mount -t tmpfs x /mnt && mknod /dev/disk b 8 0'
say unshare gocker unshare id -u
say new gocker learn new P
say owner stat -c '%u' P/main.go
say learn gocker learn check 2 true
say progress gocker learn
say check gocker system check
say homeless env -u HOME gocker ps
say doctor gocker doctor
`)
	testenv.InOrder(t, out, "status: ", "status 7\n", `missing: gocker: command not found: "nosuch"`, "status 127\n", "user: 1000\n",
		"limit: gocker: container ", ": limit memory: there is no cgroup for this container\n  a user makes cgroups only",
		`device: gocker: container `, `: make the device "/dev/fuse": operation not permitted: a user who is not root makes no devices`, "host: ", "lo\n",
		"started\n", "ps: one sample:latest\n", "exec: 7\n", fmt.Sprintf("outside: %d\n", testenv.FirstSubID+6), "top: PID", "while :; do",
		"stats: gocker: stats one: there is no cgroup", "pause: gocker: pause one: there is no cgroup", "cp: ", "diff: ", "A /tmp/file\n", "commit: sha256:", "again: hello\n", "stop: one\n", "start: one\n", "rm: one\n",
		"sick: ", "well: ", "asked: asked Up ", "(healthy)\n", "late: ", "probes: few\n", "volume: vol\n", "pid: gocker: container ", ": a container without a pid namespace of its own: ", "privileged: mknod: /dev/disk: Operation not permitted\n", "unshare: 0\n", "new: P has a program", fmt.Sprintf("owner: %d\n", testenv.UserID), "learn: FAIL  a file has its content", "progress: STEP", "check: 2 images and ", " are as they should be\n",
		"homeless: ", "mkdir "+filepath.Dir(u.Home)+"/.local: permission denied",
		fmt.Sprintf("root is user %d outside, and there are %d more ids", testenv.UserID, testenv.SubIDs), "Containers can run here")
	if len(holders(t)) != 1 { // it stays for the user's next command
		t.Errorf("processes %v hold the user's namespaces; want one", holders(t))
	}
	for deadline := time.Now().Add(time.Minute); len(holders(t)) > 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("processes hold the user's namespaces, and nobody is in there: %v", holders(t))
		}
	}
}

// gocker begins twice, and what its packages do before main takes most of such a beginning.
func TestAUsersGockerGoesInBeforeMostOfItsPackagesBegin(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap")
	u := testenv.OrdinaryUser(t, testenv.Subids())
	out := asUser(t, u, "gocker ps; GODEBUG=inittrace=1 gocker ps 2>&1")
	starts := strings.Split(out, "\ninit runtime @")[1:]
	if len(starts) != 2 {
		t.Fatalf("gocker begins %d times; want 2:\n%s", len(starts), out)
	}
	const most = 40
	if packages := strings.Count(starts[0], "\ninit "); packages > most {
		t.Errorf("the first time, %d packages begin; want at most %d:\n%s", packages, most, starts[0])
	}
}

// Whatever is killed, the mounts go with the namespaces, and the next command finds the truth.
func TestAfterAKillAUserFindsTheTruth(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap", "pgrep", "pkill")
	u := testenv.OrdinaryUser(t, testenv.Subids())
	out := asUser(t, u, `
gocker run -d --name one --network none sample sleep 1000 >/dev/null 2>&1
pkill -KILL -x gocker-holder
gocker exec one echo in there
gocker run --rm --network container:one sample echo beside it
pkill -KILL -x gocker-holder
echo without a holder: $(gocker ps -q | wc -l)
pkill -KILL -u $(id -u) -f ^gocker-monitor
until [ -z "$(pgrep -u $(id -u) -x sleep)" ]; do sleep 0.1; done
gocker ps -a --format '{{.Names}} {{.State}}'
gocker rm one
gocker run --rm --network none sample echo again
`)
	testenv.InOrder(t, out, "in there\n", "beside it\n", "without a holder: 1\n", "one exited\n", "one\n", "again\n")
}

// A doctor who cannot go in says why, and how to mend it.
func TestTheDoctorSaysWhatKeepsAUserOut(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap", "setpriv")
	u := testenv.OrdinaryUser(t, testenv.Subids())
	out := asUser(t, u, `setpriv --no-new-privs gocker doctor 2>&1; echo status $?`)
	testenv.InOrder(t, out, "MISS  without root ", "newuidmap: exit status 1", "breaks: containers of this user", "mend:   this process has no_new_privs", "Containers cannot run here", "status 1\n")
}

// As in most containers, something covers a part of /proc. A user's container could uncover it in a proc file system of its own.
func TestAUserIsToldWhatCoversProc(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap")
	u := testenv.OrdinaryUser(t, testenv.Subids())
	const covered = "/proc/version"
	if err := unix.Mount("/dev/null", covered, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(covered, unix.MNT_DETACH)
	out := asUser(t, u, `gocker run --rm --network none sample true 2>&1; gocker doctor 2>&1; echo status $?`)
	testenv.InOrder(t, out, `mount proc on "/proc": operation not permitted`+"\n  something covers a part of the host's /proc", "see gocker doctor\n",
		"MISS  /proc without root ", "mount proc: operation not permitted: these are covered: ", covered, "mend:   as root: umount ", "status 1\n")
}

// systemd ends a user's processes at the last logout, unless root has said something else.
func TestTheDoctorKnowsWhoseContainersGoOnAfterALogout(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap")
	u := testenv.OrdinaryUser(t, testenv.Subids())
	cover := func(folder string) {
		t.Helper()
		if _, err := os.Stat(folder); err != nil {
			testenv.Lacks(t, folder)
		}
		if err := unix.Mount("tmpfs", folder, "tmpfs", 0, "mode=755"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Unmount(folder, unix.MNT_DETACH) })
	}
	cover("/run")
	cover("/var/lib")
	if out := asUser(t, u, "gocker doctor"); strings.Contains(out, "lingering") {
		t.Errorf("without systemd doctor speaks of lingering:\n%s", out)
	}
	if err := errors.Join(os.MkdirAll("/run/systemd/system", 0o755), os.MkdirAll("/var/lib/systemd/linger", 0o755)); err != nil {
		t.Fatal(err)
	}
	testenv.InOrder(t, asUser(t, u, "gocker doctor"), "note  lingering ", "systemd ends what learner has started", "mend:   as root: loginctl enable-linger learner\n")
	if err := os.WriteFile("/var/lib/systemd/linger/learner", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	testenv.InOrder(t, asUser(t, u, "gocker doctor"), "ok    lingering ", "the containers of learner go on after a logout\n")
}

// diskOfUser mounts a file system of the user's, with these flags and options, in a folder of the home.
func diskOfUser(t *testing.T, folder string, flags uintptr, options string) {
	t.Helper()
	err := errors.Join(os.MkdirAll(folder, 0o755), os.Chown(filepath.Dir(folder), testenv.UserID, testenv.UserID),
		unix.Mount("tmpfs", folder, "tmpfs", flags, fmt.Sprintf("uid=%d,gid=%[1]d,mode=700,%s", testenv.UserID, options)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(folder, unix.MNT_DETACH) })
}

// A home may be mounted so that no program in it is anybody else's, or even runs. Images lie on an overlay, which is not.
func TestAHomeWithoutProgramsIsGoodForContainers(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap")
	u := testenv.OrdinaryUser(t, testenv.Subids())
	diskOfUser(t, filepath.Join(u.Home, ".local"), unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
	out := asUser(t, u, `
say() { printf '%s: ' "$1"; shift; "$@" 2>&1 || echo "status $?"; }
gocker run --name one --network none sample sh -c 'cp /usr/bin/id /id; chmod 4755 /id' >/dev/null 2>&1
gocker commit one mine:1 >/dev/null
say setuid gocker run --rm --network none -u 1000 mine:1 /id -u
say device gocker run --rm --network none sample sh -c 'echo >/dev/null && echo null'
say volume gocker run --rm --network none -v vol:/v:ro sample sh -c 'touch /v/x 2>/dev/null || echo read-only'
say program gocker run --rm --network none -v vol:/v sample sh -c 'cp /usr/bin/id /v/id; /v/id'
gocker rm one
`)
	testenv.InOrder(t, out, "setuid: 0\n", "device: null\n", "volume: read-only\n", "program: ", "/v/id: Permission denied\n", "one\n")
}

// What has ended is seen to have ended, and its removal makes room.
func TestAUsersDiskMayBeFull(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap")
	u := testenv.OrdinaryUser(t, testenv.Subids())
	asUser(t, u, "gocker pull -q sample")
	for len(holders(t)) > 0 { // in there nobody sees a new mount of the machine's
		time.Sleep(10 * time.Millisecond)
	}
	diskOfUser(t, filepath.Join(u.Home, ".local/share/gocker/containers"), 0, "size=2m")
	diskOfUser(t, filepath.Join(u.Home, "small/disk"), 0, "size=4m")
	out := asUser(t, u, `
say() { printf '%s: ' "$1"; shift; "$@" 2>&1 || echo "status $?"; }
gocker run -d --name up --network none sample sleep 1000 >/dev/null
say write gocker exec up dd if=/dev/zero of=/big bs=64k status=none
say ps gocker ps -a --format '{{.Names}} {{.State}}'
say stop gocker stop -t 0 up
say ended gocker ps -a --format '{{.Names}} {{.State}}'
say create gocker create --network none sample true
say rm gocker rm up
say again gocker run --rm --network none sample echo there is room
say pull env GOCKER_ROOT=$HOME/small/disk/root gocker pull -q sample
say left find small/disk -type f -size +4k
say images env GOCKER_ROOT=$HOME/small/disk/root gocker images -q
echo end`)
	testenv.InOrder(t, out, "write: ", "No space left on device\n", "status 1\n", "ps: up running\n", "stop: up\n", "ended: up exited\n",
		"create: ", "no space left on device\n  the disk is full; to make room: gocker system prune", "rm: up\n", "again: there is room\n",
		"pull: ", "no space left on device", "left: images: end\n")
}

// A user may have a login, with a folder for what runs, and commands beside it that do not know of it, as cron's and su's.
func TestAUsersSessionsSeeTheSameContainers(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap")
	u := testenv.OrdinaryUser(t, testenv.Subids())
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount("/run", unix.MNT_DETACH) })
	before := asUser(t, u, `gocker run -d --name before --network none sample sleep 1000 >/dev/null 2>&1; gocker ps --format '{{.Names}}'`)
	login := fmt.Sprint("/run/user/", testenv.UserID)
	if err := errors.Join(os.MkdirAll(login, 0o700), os.Chmod("/run/user", 0o755), os.Chown(login, testenv.UserID, testenv.UserID)); err != nil {
		t.Fatal(err)
	}
	out := asUser(t, u, `
say() { printf '%s: ' "$1"; shift; "$@" 2>&1 || echo "status $?"; }
gocker run -d --name one --network none sample sleep 1000 >/dev/null
export XDG_RUNTIME_DIR=`+login+`
say login gocker ps --format '{{.Names}}'
say list gocker ps
say other gocker exec before true
say cron env -u XDG_RUNTIME_DIR gocker ps --format '{{.Names}}'
say su env XDG_RUNTIME_DIR=/root gocker ps --format '{{.Names}}'
say early env GOCKER_RUN=$HOME/.local/share/gocker/run/gocker gocker rm -f before
gocker rm -f one
`)
	testenv.InOrder(t, before, "before\n")
	testenv.InOrder(t, out, "login: one\n", "list: gocker: containers of another run folder: 1; to see them: GOCKER_RUN="+u.Home+"/.local/share/gocker/run/gocker gocker ps\n",
		"other: gocker: no such container: \"before\"\n  it belongs to another run folder: GOCKER_RUN=", "cron: one\n", "su: one\n", "early: before\n", "one\n")
}

// Where gocker cannot go in, it says why.
func TestWhoCannotJoinTheNamespacesIsToldWhy(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap", "unshare")
	u := testenv.OrdinaryUser(t, testenv.Subids())
	out := asUser(t, u, `
gocker run -d --name one --network none sample sleep 1000 >/dev/null
GOCKER_ROOT=$HOME/.local/share/gocker GOCKER_RUN=$HOME/.local/share/gocker/run/gocker unshare --user gocker ps 2>&1; echo status $?
`)
	testenv.InOrder(t, out, "gocker: join the namespaces of the process gocker-holder: setns: operation not permitted\n  is gocker in a user namespace", "status 125\n")

	later := filepath.Join(u.Home, "later") // the mount namespace of the user has a mount less
	if err := errors.Join(os.Mkdir(later, 0o755), unix.Mount("tmpfs", later, "tmpfs", 0, "")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(later, unix.MNT_DETACH) })
	program, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = os.WriteFile(filepath.Join(later, "gocker"), program, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	out = asUser(t, u, "later/gocker ps 2>&1; echo status $?; gocker rm -f one")
	testenv.InOrder(t, out, "gocker: execute ", "/later/gocker", " once more, in the user's namespaces: it is not there\n  was it replaced", "status 125\n", "one\n")
}

// All commands that begin at once are in one pair of namespaces.
func TestCommandsThatBeginAtOnceShareTheNamespaces(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap", "pgrep")
	u := testenv.OrdinaryUser(t, testenv.Subids())
	out := asUser(t, u, `
for i in 1 2 3 4 5 6 7 8; do gocker unshare sh -c 'sleep 1; readlink /proc/self/ns/user /proc/self/ns/mnt' & done | sort | uniq -c | awk '{print $1}'
wait`)
	if out != "8\n8\n" {
		t.Errorf("so many are in each namespace: %q; want 8 in one pair", out)
	}
}

func TestWithoutARangeAUserHasImagesOfRootsFiles(t *testing.T) {
	u := testenv.OrdinaryUser(t, "")
	out := asUser(t, u, `
gocker run --rm --network none sample id 2>&1
gocker run --rm --network none -u 1000 sample id 2>&1
gocker doctor 2>&1; :`)
	testenv.InOrder(t, out, "gocker: images with files of several users cannot be here: /etc/subuid has no range for this user; see docs/user-namespaces.md\n",
		"uid=0(root)", "user 1000, group 1000: this user namespace has root only", "root is user 61234 outside, and there is no other user")
}

func TestAUserHasLimitsBelowADelegatedCgroup(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap", "setpriv")
	u := testenv.OrdinaryUser(t, testenv.Subids())
	out := asUserIn(t, u, cgrouptest.Delegated(t), `
say() { printf '%s: ' "$1"; shift; "$@" 2>&1 || echo "status $?"; }
say memory gocker run --rm --network none -m 16m sample dd if=/dev/zero of=/dev/shm/x bs=1M count=60 status=none
say pids gocker run --rm --network none --pids-limit 3 sample sh -c 'sleep 1 & sleep 1 & sleep 1 & sleep 1 & wait'
gocker run -d --name one --network none -m 64m --cpus 0.5 sample sleep 1000 >/dev/null
say exec gocker exec one cat /proc/self/cgroup
say stats gocker stats --no-stream --format '{{.Name}} {{.MemUsage}} {{.PIDs}}' one
say pause gocker pause one
say paused gocker ps --format '{{.Status}}'
say unpause gocker unpause one
say commit gocker commit one mine:1
say update gocker update -m 32m one
say updated gocker stats --no-stream --format '{{.MemUsage}}' one
say rm gocker rm -f one
say host gocker run --rm --network none --pid host sample sh -c 'ps -o args= -p 1 | wc -l; ls -d /proc/self /proc/sys'
echo end`)
	testenv.InOrder(t, out, "memory: ", "status 137\n", "pids: ", "ork", "exec: ", "/\n", "stats: one ", "/ 64MiB 1\n", "pause: one\n", "paused: ", "(Paused)\n", "unpause: one\n",
		"commit: sha256:", "update: one\n", "updated: ", "/ 32MiB\n", "rm: one\n", "host: 1\n", "/proc/self\n/proc/sys\n")
}
