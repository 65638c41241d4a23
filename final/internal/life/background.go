//go:build linux

package life

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"gocker/final/internal/rootless"
	"gocker/final/internal/whynot"
	"gocker/step04-overlay/story"
)

// gocker has no daemon. If work continues after the end of a command, this program does it, started once more by another name.
// It reads on standard input what to do. Until it has begun, it says on standard output what it does.

// A reply says what a program in the background does. The last one says that it has begun, or why it has not.
type reply struct {
	Line    *story.Line
	Failure *whynot.Failure
}

// extraFiles is the number of the first file that it gets.
const extraFiles = 3

// inBackground starts this program by another name, and waits until it has begun. The program gets files, and what to do, as
// JSON. If ctx ends before that, inBackground asks it to end: see catchSignals.
func inBackground(ctx context.Context, name string, what any, files []*os.File, tell story.Story) (*os.Process, error) {
	cmd := &exec.Cmd{
		Path: "/proc/self/exe",
		Args: []string{name},
		// A session of its own: it lives on when the terminal is closed.
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
		Dir:         "/",
		ExtraFiles:  files,
	}
	request, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	answer, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	// A shell may have left us files that do not close: "3<file". They are not for it.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, fmt.Errorf("close inherited files: %w", err)
	}
	rootless.Hold()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	if err := json.NewEncoder(request).Encode(what); err != nil {
		return nil, errors.Join(fmt.Errorf("tell %s what to do: %w", name, err), cmd.Wait())
	}
	request.Close()
	defer context.AfterFunc(ctx, func() { cmd.Process.Signal(unix.SIGTERM) })()
	var r reply
	for replies := json.NewDecoder(answer); ; tell(*r.Line) {
		r = reply{}
		if err := replies.Decode(&r); err != nil {
			return nil, errors.Join(fmt.Errorf("%s ended without a word: %w", name, err), cmd.Wait())
		}
		if r.Line == nil {
			break
		}
	}
	if r.Failure != nil {
		cmd.Wait() // it has said why
		return nil, cmp.Or(context.Cause(ctx), r.Failure.Err())
	}
	return cmd.Process, nil
}

// isStartedAs tells whether this process is the program of that name, and reads what it is to do.
func isStartedAs(name string, what any) bool {
	if os.Args[0] != name {
		return false
	}
	if err := json.NewDecoder(os.Stdin).Decode(what); err != nil {
		os.Exit(1) // the process that wanted it is gone
	}
	return true
}

// tellStarter is the story for the process that has started this one. If that is gone, this one continues.
func tellStarter(line story.Line) { json.NewEncoder(os.Stdout).Encode(reply{Line: &line}) }

// begun tells that this process has begun, or with an error that it has not and ends.
func begun(err error) {
	var r reply
	if err != nil {
		failure := whynot.NewFailure(err)
		r.Failure = &failure
	}
	json.NewEncoder(os.Stdout).Encode(r)
	os.Stdout.Close()
}
