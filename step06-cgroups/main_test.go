//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/lesson"
	"gocker/step01-pull/shared/testenv"
	"gocker/step06-cgroups/cgroups"
	"gocker/step06-cgroups/limits"
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

func output(t *testing.T, d dirs.Dirs, args ...string) (string, error) {
	t.Helper()
	return testenv.Output(t, func(stdout *os.File) error {
		return run(t.Context(), nil, stdout, append([]string{"--root", d.Root, "--run", d.Run}, args...))
	})
}

func TestExperiments(t *testing.T) {
	testenv.NeedMachinesRoot(t, "no cgroup is delegated to the user")
	d := testenv.Dirs(t)
	for name, count := range map[string]string{
		"memory": `oom_kill (\d+)`,
		"cpu":    `nr_throttled (\d+)`,
		"pids":   `pids.events: max (\d+)`,
	} {
		t.Run(name, func(t *testing.T) {
			out, err := output(t, d, "--experiment", name)
			if err != nil {
				t.Fatalf("run = %v\n%s", err, out)
			}
			found := regexp.MustCompile("(?m)"+count).FindAllStringSubmatch(out, -1)
			if len(found) == 0 {
				t.Fatalf("want %q in\n%s", count, out)
			}
			if n, _ := strconv.Atoi(found[len(found)-1][1]); n == 0 {
				t.Errorf("the kernel counted nothing:\n%s", out)
			}
		})
	}
}

func TestADeviceThatIsNotListedCannotBeRead(t *testing.T) {
	testenv.NeedMachinesRoot(t, "no cgroup is delegated to the user")
	out, err := output(t, testenv.Dirs(t), "--experiment", "devices")
	if err != nil {
		t.Fatal(err)
	}
	testenv.InOrder(t, out, "made\n", "Operation not permitted")
}

func TestRunSaysWhatTheLimitsAre(t *testing.T) {
	testenv.NeedMachinesRoot(t, "no cgroup is delegated to the user")
	d := testenv.Dirs(t)
	out, err := output(t, d, "-m", "48m", "--cpus", "0.5", "--pids-limit", "20", "sample", "sh", "-c", "exit 7")
	var exit lesson.Exit
	if !errors.As(err, &exit) || exit != 7 {
		t.Errorf("run = %v, want exit status 7", err)
	}
	for _, want := range []string{": 50331648", "50000", "pids.max: 20", "ended with status 7", "next: go run ./final run"} {
		if !strings.Contains(out, want) {
			t.Errorf("want %q in\n%s", want, out)
		}
	}
}

// The advice is followed as it stands, and then the step runs.
func TestTheAdviceOnCgroupsThatAreNotMountedHelps(t *testing.T) {
	testenv.NeedMachinesRoot(t, "it mounts cgroup file systems")
	testenv.Needs(t, "unshare", "umount", "mount", "sed")
	d := testenv.Dirs(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const script = `
while umount -l $0; do :; done 2>/dev/null
$1 >out 2>&1
cat out
advice=$(sed -n 's/^  //p' out)
eval "$advice" && $1`
	for without, missing := range map[string]string{
		"/proc":          "step06-cgroups: proc file system: not mounted on /proc\n",
		"/sys":           "step06-cgroups: cgroups: no cgroup file system is mounted\n",
		"/sys/fs/cgroup": "step06-cgroups: cgroups: no cgroup file system is mounted\n",
	} {
		cmd := exec.Command("unshare", "--mount", "sh", "-c", script, without, exe)
		cmd.Dir = t.TempDir()
		cmd.Env = append(os.Environ(), beStep+"=sample true", "GOCKER_ROOT="+d.Root, "GOCKER_RUN="+d.Run)
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), missing) {
			t.Errorf("without %s: %v, want %q and success after its advice in\n%s", without, err, missing, out)
		}
	}
}

func TestNonsensicalLimitsAreRefused(t *testing.T) {
	for _, args := range [][]string{{"-m", "lots"}, {"-m", "1k"}, {"--cpus", "-1"}, {"--cpus", "1000"}, {"--pids-limit", "-5"}} {
		if err := run(t.Context(), nil, io.Discard, args); !errors.Is(err, limits.ErrLimit) {
			t.Errorf("run(%q) = %v, want ErrLimit", args, err)
		}
	}
	if err := run(t.Context(), nil, io.Discard, []string{"--experiment", "disk"}); err == nil {
		t.Error("an unknown experiment was accepted")
	}
}

func TestCtrlCLeavesNothing(t *testing.T) {
	testenv.NeedMachinesRoot(t, "no cgroup is delegated to the user")
	d := testenv.Dirs(t) // looks at its end
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for scanner := bufio.NewScanner(r); scanner.Scan(); {
			if strings.HasPrefix(scanner.Text(), "6. It becomes") {
				cancel()
			}
		}
	}()
	err = run(ctx, nil, stdout, []string{"--root", d.Root, "--run", d.Run, "sample", "sleep", "1000"})
	stdout.Close()
	var exit lesson.Exit
	if !errors.As(err, &exit) || exit != 137 {
		t.Errorf("run = %v, want exit status 137", err)
	}
}

// An ordinary user has no cgroups but those below one that was delegated.
func TestAnOrdinaryUserHasLimitsWhereACgroupIsDelegated(t *testing.T) {
	testenv.Needs(t, "newuidmap", "newgidmap", "setpriv")
	u := testenv.OrdinaryUser(t, testenv.Subids())
	env := []string{beStep + "=" + ownArgs}
	out, err := u.Command(env, "/proc/self/exe", "sample", "true").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "permission denied\n  a user makes cgroups only below one that root has delegated to this user; ") {
		t.Errorf("without one it ends with %v and\n%s", err, out)
	}

	cg, err := cgroups.New(nil, "gocker-delegated-to-a-user")
	if err != nil {
		t.Fatal(err)
	}
	defer cgroups.Remove(cg)
	// What is to be the user's: see "Delegation" in the kernel's cgroup-v2 document. A cgroup of v2 that has others inside has no
	// processes, so the user's are in one inside. v1 has no such rule.
	const delegate = `
for door; do
	folder=${door%/*}
	chown $USER $folder $door
	if [ -e $folder/cgroup.subtree_control ]; then
		mkdir $folder/session
		chown $USER $folder/cgroup.subtree_control $folder/session $folder/session/cgroup.procs
		door=$folder/session/cgroup.procs
	fi
	echo $$ >$door
done
exec setpriv --reuid $USER --regid $USER --clear-groups $STEP -m 48m --pids-limit 20 sample sh -c 'exit 7'`
	self, err := os.Open("/proc/self/exe") // it is in a folder that the user may not open
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	cmd := exec.Command("sh", append([]string{"-ec", delegate, "sh"}, cgroups.Doors(cg)...)...)
	cmd.Env, cmd.Dir = append(u.Command(env, "").Env, fmt.Sprint("USER=", testenv.UserID), "STEP=/proc/self/fd/3"), "/"
	cmd.ExtraFiles = []*os.File{self}
	out, err = cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("with one it ends with %v and\n%s", err, out)
	}
	testenv.InOrder(t, string(out), "gocker-delegated-to-a-user", ": 50331648", "pids.max: 20", "4. No device is denied", "ended with status 7")
}
