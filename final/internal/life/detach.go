//go:build linux

package life

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/final/internal/containers"
	"gocker/final/internal/describe"
	"gocker/final/internal/why"
	"gocker/final/internal/whynot"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step04-overlay/story"
	"gocker/step05-namespaces/namespaces"
	"gocker/step06-cgroups/cgroups"
)

// A detached container has no daemon, but somebody must wait for it, write its log and clean up after it: a monitor,
// which is this program again, running the same Run in the background.

// monitorName is what a monitor is called.
const monitorName = "gocker-monitor"

// A monitorRequest is what the monitor is to do. It gets the container's lock, and one end of a connection of somebody
// who wants to see all of it.
type monitorRequest struct {
	Dirs    dirs.Dirs
	ID      string
	Console *specs.Box // the size of that one's terminal
	Watched bool       // there is such a connection
	Tells   bool       // its replies tell what it does

	Keeps bool         // only a terminal, whose output is lost
	Exec  *ExecOptions // if not nil: only to wait for one more command in a container that runs
}

// A monitorReply is what the monitor does meanwhile, or, at last, that the container runs, or does not.
type monitorReply struct {
	Line    *story.Line
	Failure *whynot.Failure
}

// Detach makes a container and runs it in the background. It returns its id once its command has started.
func (life Life) Detach(opts describe.Options, say func(format string, args ...any)) (id string, err error) {
	ctx, signals := catchSignals()
	defer signals.stop()
	c, err := life.create(ctx, opts, say)
	if err != nil {
		return "", err
	}
	if err := c.detach(nil, nil); err != nil {
		return "", errors.Join(err, c.Remove(true))
	}
	return c.State.ID, nil
}

// Start starts a container that does not run, in the background. One that runs is no error.
func (life Life) Start(name string) error {
	h, err := life.Containers.Take(name)
	if errors.Is(err, containers.ErrRunning) {
		return nil
	}
	if err != nil {
		return err
	}
	c := &container{Held: h, life: life}
	return c.start(func() error { return c.detach(nil, nil) })
}

// StartAttached is Start for somebody who stays to see it, and returns its status.
func (life Life) StartAttached(name string, opts AttachOptions, streams Streams) (status int, err error) {
	h, err := life.Containers.Take(name)
	if err != nil {
		return -1, err
	}
	c := &container{Held: h, life: life}
	var follow func(*signals) (int, error)
	err = c.start(func() (err error) {
		follow, err = c.detachAttached(opts, streams)
		return err
	})
	if err != nil {
		return -1, err
	}
	_, signals := catchSignals()
	defer signals.stop()
	return follow(signals)
}

// start makes a container ready, and hands it over. If that fails, it is stopped again, and knows why.
func (c *container) start(handOver func() error) error {
	err := c.Ready(c.life.Tell)
	if err == nil {
		err = handOver()
	}
	if err == nil {
		return nil
	}
	changeErr := c.Change(func(s *containers.State) {
		s.Error, s.ExitCode, s.End = err.Error(), NotStarted(err, 128), why.End{Advice: advice.Of(err)}
	})
	return errors.Join(err, changeErr, c.Close())
}

// NotStarted is the exit status of a command that did not start: 127 if it was not found, 126 if it cannot be executed, else
// other.
func NotStarted(err error, other int) int {
	switch {
	case errors.Is(err, namespaces.ErrNotFound):
		return 127
	case errors.Is(err, namespaces.ErrNotExecutable):
		return 126
	}
	return other
}

// detach hands a container over to a monitor, and returns when its command has started. If that fails, it is ours again.
func (c *container) detach(watcher *os.File, console *specs.Box) error {
	at, err := c.life.absolute()
	if err != nil {
		return err
	}
	request := monitorRequest{Dirs: at, ID: c.State.ID, Console: console, Watched: watcher != nil, Tells: c.FS.Tell != nil}
	// A lock belongs to the open file, which now both have: it is held until the last of them closes it.
	files := []*os.File{c.FS.Lock()}
	if watcher != nil {
		files = append(files, watcher)
	}
	process, err := inBackground(request, files, c.FS.Tell)
	if err != nil { // a monitor that was killed leaves what it has made
		return errors.Join(err, cgroups.RemoveRecorded(c.FS))
	}
	return errors.Join(c.FS.Close(), process.Release())
}

// absolute are the folders for a process whose working folder is another one.
func (life Life) absolute() (dirs.Dirs, error) {
	root, rootErr := filepath.Abs(life.Containers.Dirs.Root)
	run, runErr := filepath.Abs(life.Containers.Dirs.Run)
	return dirs.Dirs{Root: root, Run: run}, errors.Join(rootErr, runErr)
}

// inBackground starts a monitor, and waits until it has done the first part of what it is to do.
func inBackground(what any, files []*os.File, tell story.Story) (*os.Process, error) {
	cmd := &exec.Cmd{
		Path: "/proc/self/exe",
		Args: []string{monitorName},
		// A session of its own: it lives on when the terminal is closed.
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
		Dir:         "/",
		ExtraFiles:  files,
	}
	request, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	reply, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a monitor: %w", err)
	}
	if err := json.NewEncoder(request).Encode(what); err != nil {
		return nil, errors.Join(fmt.Errorf("tell the monitor: %w", err), cmd.Wait())
	}
	request.Close()
	var r monitorReply
	for replies := json.NewDecoder(reply); ; tell(*r.Line) {
		r = monitorReply{}
		if err := replies.Decode(&r); err != nil {
			return nil, errors.Join(fmt.Errorf("the monitor ended without a word: %w", err), cmd.Wait())
		}
		if r.Line == nil {
			break
		}
	}
	if r.Failure != nil {
		cmd.Wait() // it has said why
		return nil, r.Failure.Err()
	}
	return cmd.Process, nil
}

// Monitor does nothing, unless this process is a monitor: then it never returns.
func Monitor() {
	if os.Args[0] != monitorName {
		return
	}
	tell := func(err error) {
		var r monitorReply
		if err != nil {
			failure := whynot.NewFailure(err)
			r.Failure = &failure
		}
		json.NewEncoder(os.Stdout).Encode(r) // if nobody listens any more, the container runs all the same
		os.Stdout.Close()
	}
	var r monitorRequest
	if err := json.NewDecoder(os.Stdin).Decode(&r); err != nil {
		os.Exit(1) // who wanted a container is gone
	}
	life := New(r.Dirs)
	if r.Keeps {
		tell(nil)
		io.Copy(io.Discard, os.NewFile(extraFiles, "terminal"))
		os.Exit(0)
	}
	if r.Exec != nil {
		told := false
		_, err := life.exec(r.ID, *r.Exec, Streams{}, func() {
			tell(nil)
			told = true
		})
		if !told {
			tell(err)
		}
		os.Exit(0)
	}
	for fd := range 2 {
		syscall.CloseOnExec(extraFiles + fd)
	}
	if r.Tells {
		life.Tell = func(line story.Line) { json.NewEncoder(os.Stdout).Encode(monitorReply{Line: &line}) } // as above
	}
	c, err := life.adopt(r.ID, os.NewFile(extraFiles, "lock"))
	if err == nil && r.Watched {
		err = c.server.Serve(os.NewFile(extraFiles+1, "watcher"))
	}
	if err != nil {
		tell(err)
		os.Exit(0)
	}
	c.Spec.Process.ConsoleSize = r.Console
	c.keep(tell)
	os.Exit(0)
}

// extraFiles is the first of ExtraFiles.
const extraFiles = 3

// adopt takes a container over from the process that started this one.
func (life Life) adopt(id string, lock *os.File) (c *container, err error) {
	h, err := life.Containers.Adopt(id, lock, life.Tell)
	if err != nil {
		return nil, err
	}
	c = &container{Held: h, life: life}
	return c, c.open()
}

// A container that ends at once is started again after a while, each time after twice as long, as docker does. One that
// has run for longer than calm begins anew.
const (
	firstPause = 100 * time.Millisecond
	longPause  = time.Minute
	calm       = 10 * time.Second
)

// again tells whether a container that has ended is started again.
func (c *container) again(s *containers.State, status int) bool {
	if !c.kept {
		return false
	}
	select {
	case <-c.server.Stopped:
		return false
	default:
		return s.Options.Restart.Again(status, s.Restarts)
	}
}

// keep runs a container as often as its restart policy wants. It tells what became of the first start; if that failed,
// the container is again the one's who asked for it.
func (c *container) keep(tell func(error)) {
	ctx, signals := catchSignals()
	c.kept = true
	told := false
	pause := firstPause
	for {
		status, err := c.once(Streams{}, signals, func() {
			if !told {
				tell(nil)
				told = true
				debug.FreeOSMemory() // from now on little is needed, for long
			}
		})
		if !told {
			tell(err)
			return
		}
		if c.State.Status != containers.StateRestarting {
			c.end(err)
			c.shut(status)
			return
		}
		if c.State.Finished.Sub(c.State.Started) > calm {
			pause = firstPause
		}
		c.server.Ended(status)
		select {
		case <-time.After(pause):
		case <-c.server.Stopped:
		case <-ctx.Done():
		}
		pause = min(2*pause, longPause)
		if !c.again(&c.State, status) || ctx.Err() != nil {
			c.Change(func(s *containers.State) { s.Status = specs.StateStopped })
			c.end(err)
			c.shut(status)
			return
		}
		if spec, err := c.ReadSpec(c.State.ID); err == nil { // it may have been updated
			c.Spec = spec
		}
		c.Change(func(s *containers.State) { s.Restarts++ })
	}
}
