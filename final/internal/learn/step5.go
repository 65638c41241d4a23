//go:build linux

package learn

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"golang.org/x/sys/unix"

	"gocker/final/internal/learn/cage"
	"gocker/step01-pull/sample"
	"gocker/step01-pull/shared/tree"
	"gocker/step02-untar/untar"
	"gocker/step04-overlay/check"
)

// rootfs is ROOTFS, in Dir.
const rootfs = "rootfs"

const standardPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// runCases are about "P run ROOTFS CMD…". ROOTFS is the sample image in one folder.
func runCases() ([]kase, error) {
	plain := sync.OnceValues(sampleTar)
	in := func(name string, try func(*trial) error) kase {
		return kase{name, func(t *trial) error {
			if err := t.makeRoot(plain); err != nil {
				return err
			}
			return try(t)
		}}
	}
	says := func(name, script, want string) kase {
		return in(name, func(t *trial) error { return t.says(script, want) })
	}
	return []kase{
		says("runs", "echo hello", "hello"),
		in("status", func(t *trial) error { return t.ends(7, "sh", "-c", "exit 7") }),
		in("stdin", readsInput),
		says("root", "cat /etc/os-release", "ID=sample\nPRETTY_NAME=\"gocker sample image\""),
		says("pid", "echo $$", "1"),
		says("proc", "cat /proc/1/comm; cat /proc/self/comm", "sh\ncat"),
		in("host-name", changesHostName),
		in("net", func(t *trial) error { return t.own("net") }),
		in("ipc", func(t *trial) error { return t.own("ipc") }),
		says("lo", "grep -q '127.0.0.1' /proc/net/fib_trie && echo up || echo down", "up"),
		in("path", hasOwnEnvironment),
		says("dev", "for d in null zero full random urandom; do [ -c /dev/$d ] || echo $d; done; echo x > /dev/null && echo ok", "ok"),
		in("not-found", func(t *trial) error { return t.ends(127, "no-such-command") }),
		in("not-executable", func(t *trial) error { return t.ends(126, "/etc/passwd") }),
		in("orphan", func(t *trial) error { return t.ends(3, "sh", "-c", "sleep 600 & exit 3") }),
		in("pivot", pivots),
		in("old-root", leavesOldRoot),
		in("rest", leavesRoot),
		in("files", hasOnlyStreams),
		in("zombie", waitsForAll),
		in("term", passesSignals),
		in("killed", diesTogether),
	}, nil
}

// sampleTar is the sample image as one plain archive.
func sampleTar() ([]byte, error) {
	img, _, err := sample.Image()
	if err != nil {
		return nil, err
	}
	flat := mutate.Extract(img)
	defer flat.Close()
	return io.ReadAll(flat)
}

// makeRoot makes ROOTFS.
func (t *trial) makeRoot(plain func() ([]byte, error)) error {
	archive, err := plain()
	if err != nil {
		return err
	}
	if err := os.Mkdir(t.at(rootfs), 0o755); err != nil {
		return err
	}
	w, err := untar.NewWriter(t.at(rootfs))
	if err != nil {
		return err
	}
	defer w.Close()
	if err := untar.Each(bytes.NewReader(archive), func(h *tar.Header, content io.Reader) error { return w.Write(h, content) }); err != nil {
		return err
	}
	return w.Finish()
}

// runIn are the arguments that run a command in ROOTFS.
func (t *trial) runIn(command ...string) []string {
	return append(append([]string{"run"}, t.limits...), append([]string{cage.Dir + "/" + rootfs}, command...)...)
}

// says runs a script, which is to write this.
func (t *trial) says(script, want string) error {
	o, err := t.succeed(t.runIn("sh", "-c", script)...)
	if err == nil && strings.TrimSpace(o.Stdout) != want {
		err = failed("", want, o.Stdout)
	}
	return err
}

// ends runs a command, which is to end with this status.
func (t *trial) ends(status int, command ...string) error {
	o, err := t.run(t.runIn(command...)...)
	if err == nil && o.Status != status {
		err = failed("", say("status %d", status), say("status %d", o.Status))
	}
	return err
}

// during runs a script that writes "ready" and goes on. Meanwhile look looks at it: pid is its PID 1, as the host counts.
// At the end it is killed, and P is to end by itself.
func (t *trial) during(script string, look func(r *cage.Running, pid int) error) error {
	args := t.runIn("sh", "-c", script)
	t.ran = append(t.ran, "P "+strings.Join(args, " "))
	r, err := t.Start(append(append([]string{}, t.program...), args...), nil, nil)
	if err != nil {
		return failed("start", "", err.Error())
	}
	ready := soon(func() bool { return strings.Contains(r.Stdout(), "ready") })
	firsts, err := t.Firsts()
	pid := append(firsts, 0)[0]
	switch {
	case !ready:
		err = failed("runs", "ready", r.Stdout())
	case err == nil && pid == 0:
		err = failed("pid", say("a process that is PID 1 in a pid namespace of its own"), say("there is none"))
	case err == nil:
		err = look(r, pid)
	}
	if pid == 0 {
		t.KillRest()
	} else {
		unix.Kill(pid, unix.SIGKILL) // it may have ended
	}
	o, waitErr := r.Wait(most)
	if err == nil && waitErr == nil && o.Late {
		err = failed("late", say("P ends when the command was killed"), say("it was still there, and was killed"))
	}
	t.stderr = o.Stderr
	return errors.Join(err, waitErr)
}

// soon waits for something, on a slow machine for some seconds.
func soon(is func() bool) bool { return within(20*time.Second, is) }

func within(most time.Duration, is func() bool) bool {
	for end := time.Now().Add(most); ; time.Sleep(10 * time.Millisecond) {
		if is() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}

const forever = "echo ready; while :; do sleep 1; done"

// own looks whether the command has a namespace that is not the cage's.
func (t *trial) own(kind string) error {
	return t.during(forever, func(_ *cage.Running, pid int) error {
		ours, err := t.Namespace(0, kind)
		theirs, otherErr := t.Namespace(pid, kind)
		if err = errors.Join(err, otherErr); err == nil && ours == theirs {
			err = failed("", say("another namespace than %s", ours), theirs)
		}
		return err
	})
}

func readsInput(t *trial) error {
	args := t.runIn("cat")
	t.ran = append(t.ran, "echo hello | P "+strings.Join(args, " "))
	r, err := t.Start(append(append([]string{}, t.program...), args...), nil, strings.NewReader("hello\n"))
	if err != nil {
		return failed("start", "", err.Error())
	}
	o, err := r.Wait(most)
	t.stderr = o.Stderr
	if err == nil && o.Stdout != "hello\n" {
		err = failed("", "hello", o.Stdout)
	}
	return err
}

// hasOnlyStreams looks which files of P the command has open.
func hasOnlyStreams(t *trial) error {
	return t.during(forever, func(_ *cage.Running, pid int) error {
		folder := fmt.Sprintf("/proc/%d/fd", pid)
		entries, err := os.ReadDir(folder)
		if err != nil {
			return err
		}
		var others []string
		for _, e := range entries {
			if name := e.Name(); name != "0" && name != "1" && name != "2" {
				file, _ := os.Readlink(filepath.Join(folder, name)) // the number tells, too
				others = append(others, name+" -> "+file)
			}
		}
		if len(others) > 0 {
			return failed("", say("0, 1 and 2"), say("also %s", strings.Join(others, ", ")))
		}
		return nil
	})
}

// waitsForAll looks for children of P that have ended and that P does not wait for.
func waitsForAll(t *trial) error {
	return t.during(forever, func(r *cage.Running, _ int) error {
		var zombies []string
		if within(3*time.Second, func() bool { zombies = zombiesOf(r.Pid); return len(zombies) == 0 }) {
			return nil
		}
		return failed("", say("no zombie"), strings.Join(zombies, "\n"))
	})
}

// zombiesOf are the names of the zombies that are a process's children.
func zombiesOf(pid int) (names []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, file := range files {
		status, _ := os.ReadFile(file) // it may have gone
		if strings.Contains(string(status), fmt.Sprintf("\nPPid:\t%d\n", pid)) && strings.Contains(string(status), "\nState:\tZ") {
			name, _, _ := strings.Cut(strings.TrimPrefix(string(status), "Name:\t"), "\n")
			names = append(names, name)
		}
	}
	return names
}

func changesHostName(t *trial) error {
	if err := t.own("uts"); err != nil {
		return err
	}
	o, err := t.succeed(t.runIn("hostname")...)
	if err == nil && strings.TrimSpace(o.Stdout) == "learn" {
		err = failed("", say("a host name that is not this machine's"), say("%s, which is this machine's", "learn"))
	}
	return err
}

func hasOwnEnvironment(t *trial) error {
	args := t.runIn("env")
	t.ran = append(t.ran, "PATH=/opt/host:$PATH SECRET=1 P "+strings.Join(args, " "))
	r, err := t.Start(append(append([]string{}, t.program...), args...), []string{"PATH=/opt/host:" + os.Getenv("PATH"), "SECRET=1"}, nil)
	if err != nil {
		return failed("start", "", err.Error())
	}
	o, err := r.Wait(most)
	t.stderr = o.Stderr
	if err == nil && (!strings.Contains("\n"+o.Stdout, "\nPATH="+standardPath+"\n") || strings.Contains(o.Stdout, "SECRET")) {
		err = failed("", say("%s, and nothing of P's environment", "PATH="+standardPath), o.Stdout)
	}
	return err
}

// fromItsRoot calls look on a thread whose root is that of the mount namespace of a process. That is not always the process's root.
func fromItsRoot(pid int, look func() error) error {
	return check.OnThread(func() error {
		pidfd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return err
		}
		defer unix.Close(pidfd)
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
		if err := unix.Setns(pidfd, unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("join the mount namespace of process %d: %w", pid, err)
		}
		return look()
	})
}

func pivots(t *trial) error {
	return t.during(forever, func(_ *cage.Running, pid int) error {
		return fromItsRoot(pid, func() error {
			if release, err := os.ReadFile("/etc/os-release"); err != nil || !strings.HasPrefix(string(release), "ID=sample\n") {
				return failed("", say("the root of its mount namespace is ROOTFS"), say("the root of its mount namespace is this machine's: a second chroot leads there"))
			}
			return nil
		})
	})
}

func leavesOldRoot(t *trial) error {
	return t.during(forever, func(_ *cage.Running, pid int) error {
		mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", pid))
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(mounts)) {
			if fields := strings.Fields(line); len(fields) > 4 && strings.Contains(line, " - overlay ") {
				return failed("", say("no file system of this machine is mounted in the container"), say("this machine's root is on %s", fields[4]))
			}
		}
		return nil
	})
}

func leavesRoot(t *trial) error {
	before, err := t.snapshot("")
	if err != nil {
		return err
	}
	if err := t.says("echo hello", "hello"); err != nil {
		return err
	}
	after, err := t.snapshot("")
	if err != nil {
		return err
	}
	for fact := range after { // places to mount something on may stay
		for _, place := range []string{"dev", "proc", "sys"} {
			if at := rootfs + "/" + place; fact.Name == at || strings.HasPrefix(fact.Name, at+"/") && after[tree.Fact{Name: fact.Name, What: tree.Type}] == "d" {
				delete(after, fact)
				delete(before, fact)
			}
		}
	}
	if changed := changes(before, after); changed != "" {
		return failed("", say("ROOTFS is as it was"), changed)
	}
	return nil
}

func passesSignals(t *trial) error {
	return t.during(`trap "exit 9" TERM; echo ready; while :; do sleep 0.1; done`, func(r *cage.Running, _ int) error {
		t.ran = append(t.ran, "kill -TERM P")
		if err := r.Signal(unix.SIGTERM); err != nil {
			return err
		}
		o, err := r.Wait(5 * time.Second)
		if err == nil && o.Status != 9 {
			happened := say("status %d", o.Status)
			if o.Late {
				happened = say("it went on")
			}
			err = failed("", say("the command gets the signal, and ends with status 9; so does P"), happened)
		}
		return err
	})
}

func diesTogether(t *trial) error {
	return t.during(forever, func(r *cage.Running, pid int) error {
		t.ran = append(t.ran, "kill -KILL P")
		r.Kill()
		if !soon(func() bool { return hasEnded(pid) }) {
			return failed("", say("the command ends with P"), say("it is still there"))
		}
		return nil
	})
}

// hasEnded tells whether a process has ended.
func hasEnded(pid int) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return err != nil || bytes.Contains(status, []byte("\nState:\tZ"))
}
