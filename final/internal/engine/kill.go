//go:build linux

package engine

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/attach"
	"gocker/final/internal/describe"
	"gocker/final/internal/tail"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
)

// ErrNotRunning says that a container does not run.
var ErrNotRunning = errors.New("the container is not running")

// killTime is how long a killed container may take to be cleaned up.
const killTime = 10 * time.Second

// Kill sends a signal, "SIGTERM", "TERM" or "15", to a container's first process. One that has no handler for it does
// not get it, unless it is SIGKILL or SIGSTOP: see pid_namespaces(7). One that is to end it ends it for good: its restart
// policy does not start it again.
func (e Engine) Kill(name, signal string) error {
	sig, err := describe.ParseSignal(signal)
	if err != nil {
		return err
	}
	s, err := e.running(name)
	if err != nil {
		return err
	}
	if stop, err := describe.ParseSignal(s.StopSignal); sig == unix.SIGKILL || err == nil && sig == stop {
		e.noRestart(s.ID)
	}
	return e.signal(s.ID, sig, "gocker kill")
}

// signal is Kill. by is what the container's record calls the sender.
func (e Engine) signal(name string, sig unix.Signal, by string) error {
	s, err := e.running(name)
	if err != nil {
		return err
	}
	// A pidfd: the number may soon be another process's. If the container still runs afterwards, it was its own.
	process, err := os.FindProcess(s.Pid)
	if err != nil {
		return err
	}
	defer process.Release()
	if now, err := e.running(name); err != nil || now.Pid != s.Pid {
		return errors.Join(fmt.Errorf("%w: %s", ErrNotRunning, name), err)
	}
	e.noteSent(s.ID, sig, by)
	if err := process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", name, err)
	}
	e.event("kill", s, "signal", strconv.Itoa(int(sig)))
	return e.thawKilled(s)
}

// noRestart tells a container's monitor, if it has one, that the container is not to be started again.
func (e Engine) noRestart(id string) {
	if conn, err := attach.Dial(e.Dirs.Container(id)); err == nil {
		defer conn.Close()
		conn.Stop()
	}
}

// StopOptions are the flags of "gocker stop" and "gocker restart". What is empty is the container's own choice.
type StopOptions struct {
	Signal  string
	Seconds *int // until it is killed; negative: for ever
}

// stopSeconds is how long docker waits for a container that nobody has given another time.
const stopSeconds = 10

// Stop asks a container to end, by its stop signal, and kills it if it has not ended in time.
func (e Engine) Stop(name string, opts StopOptions) error {
	s, err := e.find(name)
	if err != nil || !active(s) { // docker says so too
		return err
	}
	sig, err := describe.ParseSignal(cmp.Or(opts.Signal, s.StopSignal))
	if err != nil {
		return err
	}
	seconds := stopSeconds
	if own := cmp.Or(opts.Seconds, s.Options.StopTimeout); own != nil {
		seconds = *own
	}
	e.noRestart(s.ID)
	over := func(err error) bool { return errors.Is(err, ErrNotRunning) || errors.Is(err, ErrNoContainer) }
	if err := e.signal(s.ID, sig, "gocker stop"); err != nil && !over(err) {
		return err
	}
	timeout := time.Duration(seconds) * time.Second
	if seconds < 0 {
		timeout = math.MaxInt64
	}
	if sig == unix.SIGKILL {
		timeout = killTime
	}
	if e.waitEnd(s, timeout) != nil {
		if err := e.signal(s.ID, unix.SIGKILL, fmt.Sprintf("gocker stop, after %s,", timeout)); err != nil && !over(err) {
			return err
		}
		if err := e.waitEnd(s, killTime); err != nil {
			return err
		}
	}
	e.event("stop", s)
	return nil
}

// Restart stops a container that runs, and starts it.
func (e Engine) Restart(name string, opts StopOptions) error {
	s, err := e.find(name)
	if err != nil {
		return err
	}
	if err := e.Stop(s.ID, opts); err != nil {
		return err
	}
	if err := e.Start(s.ID); err != nil {
		return err
	}
	e.event("restart", s)
	return nil
}

// What Wait can wait for.
const (
	WaitStopped = "stopped"   // it does not run, nor will be started again
	WaitNext    = "next-exit" // it ends, once more
	WaitRemoved = "removed"
	WaitRunning = "running"
)

// Wait waits for a container, and returns its exit status.
func (e Engine) Wait(name, condition string) (status int, err error) {
	s, err := e.find(name)
	if err != nil {
		return -1, err
	}
	folder := e.Dirs.Container(s.ID)
	switch condition {
	case WaitStopped, "exited", "not-running":
		if !active(s) {
			return s.ExitCode, nil
		}
		if err := e.waitEnd(s, math.MaxInt64); err != nil {
			return -1, err
		}
	case WaitNext:
		for began := s.Started; ; time.Sleep(tail.PollTime) {
			now, err := readState(folder)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return -1, err
			}
			if err != nil || !now.Finished.IsZero() && !now.Started.Before(began) && active(s) || now.Started.After(began) && !now.Finished.IsZero() {
				break
			}
		}
	case WaitRemoved:
		for {
			if _, err := os.Stat(folder); errors.Is(err, os.ErrNotExist) {
				break
			} else if err != nil {
				return -1, err
			}
			time.Sleep(tail.PollTime)
		}
	case WaitRunning:
		for s.Status != specs.StateRunning {
			time.Sleep(tail.PollTime)
			if s, err = e.find(s.ID); err != nil {
				return -1, err
			}
		}
		return 0, nil
	default:
		return -1, advice.Add(fmt.Errorf("--condition %q: %w", condition, describe.ErrOption), "there are stopped, next-exit, removed and running")
	}
	if now, err := e.find(s.ID); err == nil {
		return now.ExitCode, nil
	}
	if status, ok := e.Events().ExitCode(s.ID); ok {
		return status, nil
	}
	return -1, fmt.Errorf("%w any more: %s, and no event tells how it ended", ErrNoContainer, name)
}

// Rename gives a container another name.
func (e Engine) Rename(name, to string) error {
	s, err := e.find(name)
	if err != nil {
		return err
	}
	lock, err := e.claimName(to, s.ID)
	if err != nil {
		return err
	}
	defer lock.Close()
	old := s.Name
	changed, err := e.change(s.ID, func(s *State) { old, s.Name = s.Name, to })
	if err != nil {
		e.unlink(to, s.ID)
		return err
	}
	e.unlink(old, s.ID)
	e.event("rename", changed, "oldName", old)
	return nil
}

// running is find for a container that must run.
func (e Engine) running(name string) (State, error) {
	s, err := e.find(name)
	if err == nil && s.Status != specs.StateRunning {
		err = fmt.Errorf("%w: %s", ErrNotRunning, name)
	}
	return s, err
}

// active tells whether a container runs, or will be started again.
func active(s State) bool { return s.Status == specs.StateRunning || s.Status == StateRestarting }

// held tells whether a gocker must have the container.
func held(s State) bool { return active(s) || s.Status == specs.StateCreating }

// waitEnd waits until a container has ended and its gocker has cleaned up, or another one has started it again meanwhile.
func (e Engine) waitEnd(s State, timeout time.Duration) error {
	folder := e.Dirs.Container(s.ID)
	free := make(chan error, 1)
	go func() {
		lock, err := dirs.LockShared(folder)
		if err == nil {
			lock.Close()
		} else if errors.Is(err, os.ErrNotExist) { // removed
			err = nil
		}
		free <- err
	}()
	late, look := time.After(timeout), time.NewTicker(tail.PollTime)
	defer look.Stop()
	for {
		select {
		case err := <-free:
			return err
		case <-look.C: // who starts it again may have been faster to lock it
			if now, err := readState(folder); err == nil && s.Monitor != 0 && now.Monitor != 0 && now.Monitor != s.Monitor {
				return nil
			}
		case <-late:
			return advice.Add(fmt.Errorf("container %s has not ended after %s", s.ID, timeout), "kill it: gocker kill %s", s.ID)
		}
	}
}
