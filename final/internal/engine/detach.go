//go:build linux

package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step01-pull/dirs"
	"gocker/step04-overlay/overlay"
	"gocker/step05-namespaces/namespaces"
)

// A detached container has no daemon, but somebody must wait for it, write its log and clean up after it: a monitor,
// which is this program again, running the same Run in the background.

// monitorName is what a monitor is called.
const monitorName = "gocker-monitor"

type monitorRequest struct {
	Engine Engine
	ID     string
}

// monitorReply is what the monitor says once the container runs, or does not.
type monitorReply struct{ Failure *namespaces.Failure }

// Detach makes a container and runs it in the background. It returns its id once its command has started.
func (e Engine) Detach(opts RunOptions, say func(format string, args ...any)) (id string, err error) {
	ctx, signals := catchSignals()
	defer signals.stop()
	c, err := e.create(ctx, opts, say)
	if err != nil {
		return "", err
	}
	if err := c.detach(); err != nil {
		return "", errors.Join(err, c.remove(true))
	}
	return c.state.ID, nil
}

// Start starts a container that does not run, in the background.
func (e Engine) Start(name string) error {
	s, err := e.find(name)
	if err != nil || s.Status == specs.StateRunning { // docker says so too
		return err
	}
	c, err := e.hold(s.ID)
	if err != nil {
		return err
	}
	if err = c.ready(); err == nil {
		if err = c.detach(); err == nil {
			return nil
		}
	}
	c.state.Error = err.Error()
	return errors.Join(err, c.close())
}

// detach hands a container over to a monitor, and returns when its command has started. If that fails, it is ours again.
func (c *container) detach() error {
	cmd := &exec.Cmd{
		Path: "/proc/self/exe",
		Args: []string{monitorName},
		// A session of its own: it lives on when the terminal is closed.
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
		Dir:         "/",
		// A lock belongs to the open file, which now both have: it is held until the last of them closes it.
		ExtraFiles: []*os.File{c.fs.Lock()},
	}
	request, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	reply, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start a monitor: %w", err)
	}
	// Its working folder is another one.
	root, rootErr := filepath.Abs(c.Dirs.Root)
	run, runErr := filepath.Abs(c.Dirs.Run)
	if err := errors.Join(rootErr, runErr); err != nil {
		return err
	}
	e := Engine{Dirs: dirs.Dirs{Root: root, Run: run}}
	if err := json.NewEncoder(request).Encode(monitorRequest{e, c.state.ID}); err != nil {
		return errors.Join(fmt.Errorf("tell the monitor: %w", err), cmd.Wait())
	}
	request.Close()
	var r monitorReply
	if err := json.NewDecoder(reply).Decode(&r); err != nil {
		return errors.Join(fmt.Errorf("the monitor ended without a word: %w", err), cmd.Wait())
	}
	if r.Failure != nil {
		cmd.Wait() // it has said why
		return r.Failure.Err()
	}
	return errors.Join(c.fs.Close(), cmd.Process.Release())
}

// Monitor does nothing, unless this process is the monitor of a detached container: then it never returns.
func Monitor() {
	if os.Args[0] != monitorName {
		return
	}
	tell := func(err error) {
		var r monitorReply
		if err != nil {
			failure := namespaces.NewFailure(err)
			r.Failure = &failure
		}
		json.NewEncoder(os.Stdout).Encode(r) // if nobody listens any more, the container runs all the same
		os.Stdout.Close()
	}
	var r monitorRequest
	if err := json.NewDecoder(os.Stdin).Decode(&r); err != nil {
		os.Exit(1) // who wanted a container is gone
	}
	syscall.CloseOnExec(lockFd)
	c, err := r.Engine.adopt(r.ID, os.NewFile(lockFd, "lock"))
	if err != nil {
		tell(err)
		os.Exit(0)
	}
	_, signals := catchSignals()
	started := false
	_, err = c.once(Streams{Stdout: io.Discard, Stderr: io.Discard, Started: func(string) {
		started = true
		tell(nil)
	}}, signals)
	if !started {
		tell(err) // and it is the other's again
		os.Exit(0)
	}
	c.end(err)
	os.Exit(0)
}

// lockFd is the first of ExtraFiles.
const lockFd = 3

// adopt takes a container over from the process that started this one.
func (e Engine) adopt(id string, lock *os.File) (c *container, err error) {
	c = &container{Engine: e, fs: overlay.Adopt(e.Dirs, id, lock)}
	if c.state, err = readState(c.fs.Dir); err != nil {
		return nil, err
	}
	if c.spec, err = c.readSpec(id); err != nil {
		return nil, err
	}
	c.log, err = createLog(c.fs.Dir)
	return c, err
}
