//go:build linux

package cli_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"gocker/final/internal/engine"
	"gocker/final/internal/life"
	"gocker/final/internal/networks"
	"gocker/step01-pull/shared/dirs"
	"gocker/step01-pull/shared/testenv"
)

// many is n, or with -short a part of it: an emulated machine is slow, and what the kernel does it does for few, too.
func many(n int) int {
	if testing.Short() {
		return max(n/16, 2)
	}
	return n
}

var megabytes = flag.Int("megabytes", 256, "how much goes through pipes, in MiB")

// emptyDirs are testenv's, and the bridge of their default network goes at the test's end: there are 16 subnets for such.
func emptyDirs(t testing.TB) dirs.Dirs {
	t.Helper()
	d := testenv.Dirs(t)
	t.Cleanup(func() {
		if err := (networks.Store{Dirs: d}).Rest(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// withSample are folders with the sample image in them.
func withSample(t testing.TB) dirs.Dirs {
	t.Helper()
	testenv.NeedRoot(t)
	d := emptyDirs(t)
	mustGocker(t, d, "pull", "-q", "sample")
	t.Cleanup(func() { // those of a test that failed halfway
		e := engine.Engine{Dirs: d}
		states, _ := e.Containers().List()
		for _, s := range states {
			e.Life().Remove(s.ID, life.RmOptions{Force: true, Volumes: true})
		}
	})
	return d
}

func gockerCommand(d dirs.Dirs, args ...string) *exec.Cmd {
	cmd := exec.Command("gocker", args...)
	cmd.Env = append(os.Environ(), "GOCKER_ROOT="+d.Root, "GOCKER_RUN="+d.Run)
	return cmd
}

// A terminal is a person's, with a gocker that runs in it.
type terminal struct {
	t   testing.TB
	cmd *exec.Cmd
	pty *os.File

	mu   sync.Mutex
	seen bytes.Buffer
	done chan struct{}
}

func openTerminal(t testing.TB, d dirs.Dirs, args ...string) *terminal {
	t.Helper()
	return terminalOf(t, gockerCommand(d, args...))
}

func terminalOf(t testing.TB, cmd *exec.Cmd) *terminal {
	t.Helper()
	term := &terminal{t: t, cmd: cmd, done: make(chan struct{})}
	var err error
	if term.pty, err = pty.StartWithSize(term.cmd, &pty.Winsize{Rows: 33, Cols: 99}); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(term.done)
		buffer := make([]byte, 32<<10)
		for {
			n, err := term.pty.Read(buffer)
			term.mu.Lock()
			term.seen.Write(buffer[:n])
			term.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		term.cmd.Process.Kill()
		term.pty.Close()
	})
	return term
}

func (term *terminal) types(text string) {
	term.t.Helper()
	if _, err := io.WriteString(term.pty, text); err != nil {
		term.t.Fatal(err)
	}
}

// shows waits until the terminal shows a text.
func (term *terminal) shows(text string) {
	term.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		term.mu.Lock()
		seen := term.seen.String()
		term.mu.Unlock()
		if strings.Contains(seen, text) {
			return
		}
		if time.Now().After(deadline) {
			term.t.Fatalf("the terminal does not show %q, but %q", text, seen)
		}
	}
}

// ends waits for gocker's end, and returns all that the terminal has shown.
func (term *terminal) ends(wantStatus int) string {
	term.t.Helper()
	err := term.cmd.Wait()
	<-term.done
	if status := term.cmd.ProcessState.ExitCode(); status != wantStatus {
		term.t.Errorf("gocker ended with %d, %v, want %d", status, err, wantStatus)
	}
	return term.seen.String()
}

const leaveKeys = "\x10\x11" // ctrl-p ctrl-q

func TestATerminalHasTheSizeAndTheKeysOfTheUsers(t *testing.T) {
	d := withSample(t)
	term := openTerminal(t, d, "run", "-it", "--rm", "sample", "sh")
	term.shows("# ")
	term.types("stty size\n")
	term.shows("\n33 99\r")
	if err := pty.Setsize(term.pty, &pty.Winsize{Rows: 44, Cols: 111}); err != nil {
		t.Fatal(err)
	}
	term.types("until test \"$(stty size)\" = '44 111'; do sleep 0.05; done; echo now it is $(stty size)\n")
	term.shows("now it is 44 111")
	term.types("sh -c 'echo begun; exec sleep 1000'\n")
	term.shows("\nbegun\r") // the terminal shows what is typed before the shell has read it
	term.types("\x03")      // ctrl-c ends sleep, not the shell; what is typed before the shell is back is lost
	term.shows("^C\r\n# ")
	term.types("echo alive $((6*7)); tty\n")
	term.shows("alive 42")
	term.shows("\n/dev/pts/0\r")
	term.types("exit 9\n")
	term.ends(9)
}

func TestATerminalShowsTheLastByte(t *testing.T) {
	d := withSample(t)
	for range 5 {
		term := openTerminal(t, d, "run", "-it", "--rm", "sample", "sh", "-c", "seq 1 20000; printf end")
		if shown := term.ends(0); !strings.HasSuffix(shown, "\n19999\r\n20000\r\nend") {
			t.Errorf("the terminal ends with %q", shown[max(0, len(shown)-60):])
		}
	}
}

// By itself ps lists what runs at its own terminal.
func TestTopListsAContainerWithoutATerminalForAUserWithOne(t *testing.T) {
	testenv.Needs(t, "ps")
	d := withSample(t)
	mustGocker(t, d, "run", "-d", "--name", "box", "sample", "sleep", "1000")
	for _, options := range []string{"", "-ef", "-o pid,args", "f", "aux"} {
		shown := openTerminal(t, d, append([]string{"top", "box"}, strings.Fields(options)...)...).ends(0)
		if !strings.Contains(shown, "sleep 1000") {
			t.Errorf("gocker top box %s shows %q, want sleep 1000", options, shown)
		}
	}
	mustGocker(t, d, "rm", "-f", "box")
}

func TestDetachKeysLeaveAContainerThatGoesOn(t *testing.T) {
	d := withSample(t)
	term := openTerminal(t, d, "run", "-it", "--name", "left", "sample", "sh")
	term.shows("# ")
	term.types("echo first $((1+1))\n")
	term.shows("first 2")
	term.types(leaveKeys)
	term.ends(0)
	again := openTerminal(t, d, "attach", "--detach-keys", "ctrl-x,y", "left")
	again.types("echo second $((1+2))\n")
	again.shows("second 3")
	again.types(leaveKeys + "\n") // here they are keys as others
	again.shows("not found")
	again.types("\x18y")
	again.shows("left by the detach keys")
	again.ends(0)
	last := openTerminal(t, d, "attach", "left")
	last.types("exit 5\n")
	last.ends(5)
	if logged := mustGocker(t, d, "logs", "left"); !strings.Contains(logged, "first 2") || !strings.Contains(logged, "second 3") {
		t.Errorf("gocker logs = %q, want all that was shown", logged)
	}
	mustGocker(t, d, "rm", "left")
}

func TestDetachKeysLeaveAnExecThatGoesOn(t *testing.T) {
	d := withSample(t)
	mustGocker(t, d, "run", "-d", "--name", "box", "sample", "sleep", "1000")
	for _, keys := range []struct {
		flags []string
		typed string
	}{{nil, leaveKeys}, {[]string{"--detach-keys", "ctrl-x,y"}, "\x18y"}} {
		term := openTerminal(t, d, append(append([]string{"exec", "-it"}, keys.flags...), "box", "sh")...)
		term.shows("# ")
		term.types("until [ -e /go ]; do sleep 0.1; done; echo more; stty size && mv /go /done; exit\n")
		term.types(keys.typed)
		term.shows("left by the detach keys") // on a line of its own: the prompt comes below
		term.ends(0)
		mustGocker(t, d, "exec", "box", "touch", "/go")
		mustGocker(t, d, "exec", "box", "sh", "-c", "until [ -e /done ]; do sleep 0.1; done; rm /done")
	}
	if got := mustGocker(t, d, "events", "--since", "1h", "--until", "0s", "--filter", "event=exec_detach", "--format", "{{.Action}}"); got != "exec_detach\nexec_detach\n" {
		t.Errorf("gocker events = %q, want two exec_detach", got)
	}
	mustGocker(t, d, "rm", "-f", "box")
}

func TestAllWhoAreAttachedSeeTheSameAndNobodyWaitsForTheSlow(t *testing.T) {
	d := withSample(t)
	lines := many(300000)
	mustGocker(t, d, "run", "-d", "-i", "--name", "busy", "sample", "sh", "-c", fmt.Sprintf("read go; seq 1 %d; echo end; exit 3", lines))
	var outputs [2]bytes.Buffer
	var quick [2]*exec.Cmd
	for i := range quick {
		quick[i] = gockerCommand(d, "attach", "--no-stdin", "busy")
		quick[i].Stdout = &outputs[i]
		if err := quick[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	slow := gockerCommand(d, "attach", "--no-stdin", "busy")
	full, err := slow.StdoutPipe() // that nobody reads
	if err != nil {
		t.Fatal(err)
	}
	if err := slow.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		slow.Process.Kill()
		full.Close()
		slow.Wait()
	}()
	waitFor(t, func() bool {
		events := mustGocker(t, d, "events", "--since", "1h", "--until", "0s", "--filter", "event=attach")
		return strings.Count(events, " attach ") == 3
	})
	in := gockerCommand(d, "attach", "busy")
	in.Stdin = strings.NewReader("go\n")
	if err := in.Run(); in.ProcessState.ExitCode() != 3 {
		t.Errorf("attach = %v, want status 3", err)
	}
	for i, cmd := range quick {
		cmd.Wait()
		if status := cmd.ProcessState.ExitCode(); status != 3 {
			t.Errorf("attach ended with %d, want 3", status)
		}
		if out := outputs[i].String(); !strings.HasSuffix(out, fmt.Sprintf("\n%d\nend\n", lines)) || strings.Count(out, "\n") != lines+1 {
			t.Errorf("who was attached saw %d lines", strings.Count(out, "\n"))
		}
	}
	if logged := mustGocker(t, d, "logs", "busy"); strings.Count(logged, "\n") != lines+1 {
		t.Errorf("the log has %d lines", strings.Count(logged, "\n"))
	}
	mustGocker(t, d, "rm", "busy")
}

// waitFor waits until something is so.
func waitFor(t testing.TB, isSo func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !isSo(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not become so")
		}
	}
}

func TestWhatGoesThroughPipesComesOutAsItWas(t *testing.T) {
	d := withSample(t)
	for name, args := range map[string][]string{
		"straight":            {"run", "--rm", "-i", "sample", "cat"},
		"with a log":          {"run", "-i", "--name", "logged", "--log-opt", "max-size=1m", "sample", "cat"},
		"through its monitor": {"run", "--rm", "-i", "--sig-proxy=false", "sample", "cat"},
		"to standard error":   {"run", "--rm", "-i", "sample", "sh", "-c", "cat >&2"},
	} {
		t.Run(name, func(t *testing.T) {
			size := int64(many(*megabytes)) << 20
			if name == "with a log" || name == "through its monitor" {
				size /= 8 // each byte is copied, and written as JSON
			}
			seed := [32]byte([]byte(fmt.Sprintf("%32s", name)))
			sent, got := sha256.New(), sha256.New()
			cmd := gockerCommand(d, args...)
			cmd.Stdin = io.TeeReader(io.LimitReader(rand.NewChaCha8(seed), size), sent)
			cmd.Stdout = got
			if name == "to standard error" {
				cmd.Stdout, cmd.Stderr = nil, got
			}
			if err := cmd.Run(); err != nil {
				t.Fatal(err)
			}
			if want, is := sent.Sum(nil), got.Sum(nil); !bytes.Equal(want, is) {
				t.Errorf("what came out has sha256 %x, want %x", is, want)
			}
		})
	}
	gocker(t, d, "rm", "-f", "logged")
}

func TestWhoReadsNoFurtherEndsTheContainerAsInAPipeline(t *testing.T) {
	d := withSample(t)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := gockerCommand(d, "run", "--rm", "sample", "sh", "-c", "while echo line; do :; done; exit 7")
	cmd.Stdout = writer
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	if _, err := io.ReadFull(reader, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	reader.Close()
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 128+int(unix.SIGPIPE) && exit.ExitCode() != 7 {
		t.Errorf("gocker = %v, want the end of a broken pipe", err)
	}
}
