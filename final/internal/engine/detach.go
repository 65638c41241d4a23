//go:build linux

package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"gocker/step05-namespaces/namespaces"
)

// A detached container has no daemon, but somebody must wait for it, write its log and clean up after it: a monitor,
// which is this program again, running the same Run in the background.

// monitorName is what a monitor is called.
const monitorName = "gocker-monitor"

type monitorRequest struct {
	Engine  Engine
	Options RunOptions
}

// monitorReply is what the monitor says once the container runs, or does not.
type monitorReply struct {
	ID      string
	Failure *namespaces.Failure
}

// Detach runs a container in the background, and returns its id once its command has started.
func (e Engine) Detach(opts RunOptions, say func(format string, args ...any)) (id string, err error) {
	// Pulling takes its time and has things to say: not in the background.
	ctx, signals := catchSignals()
	_, err = e.image(ctx, opts.Image, say)
	signals.stop()
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return "", err
	}
	cmd := &exec.Cmd{
		Path: "/proc/self/exe",
		Args: []string{monitorName},
		// A session of its own: it lives on when the terminal is closed.
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
		Dir:         "/",
	}
	request, err := cmd.StdinPipe()
	if err != nil {
		return "", err
	}
	reply, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("start a monitor: %w", err)
	}
	opts.Log = true
	if err := json.NewEncoder(request).Encode(monitorRequest{e, opts}); err != nil {
		return "", errors.Join(fmt.Errorf("tell the monitor: %w", err), cmd.Wait())
	}
	request.Close()
	var r monitorReply
	if err := json.NewDecoder(reply).Decode(&r); err != nil {
		return "", errors.Join(fmt.Errorf("the monitor ended without a word: %w", err), cmd.Wait())
	}
	if r.Failure != nil {
		cmd.Wait() // it has said why
		return "", r.Failure.Err()
	}
	return r.ID, cmd.Process.Release()
}

// Monitor does nothing, unless this process is the monitor of a detached container: then it never returns.
func Monitor() {
	if os.Args[0] != monitorName {
		return
	}
	var r monitorRequest
	if err := json.NewDecoder(os.Stdin).Decode(&r); err != nil {
		os.Exit(1) // who wanted a container is gone
	}
	tell := func(reply monitorReply) {
		json.NewEncoder(os.Stdout).Encode(reply) // if nobody listens any more, the container runs all the same
		os.Stdout.Close()
	}
	started := false
	_, err := r.Engine.Run(r.Options, Streams{Stdout: io.Discard, Stderr: io.Discard, Started: func(id string) {
		started = true
		tell(monitorReply{ID: id})
	}}, func(string, ...any) {})
	if err != nil && !started {
		failure := namespaces.NewFailure(err)
		tell(monitorReply{Failure: &failure})
	}
	os.Exit(0)
}
