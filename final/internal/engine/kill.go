//go:build linux

package engine

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/advice"
)

// What can be wrong with ending a container.
var (
	ErrNotRunning = errors.New("the container is not running")
	ErrSignal     = errors.New("no such signal")
)

// killTime is how long a killed container may take to be cleaned up.
const killTime = 10 * time.Second

// Kill sends a signal, "SIGTERM", "TERM" or "15", to a container's first process. One that has no handler for it does
// not get it, unless it is SIGKILL or SIGSTOP: see pid_namespaces(7).
func (e Engine) Kill(name, signal string) error {
	sig, err := parseSignal(signal)
	if err != nil {
		return err
	}
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
	if err := process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", name, err)
	}
	return nil
}

// Stop asks a container to end, by its stop signal, and kills it if it has not ended in time.
func (e Engine) Stop(name string, timeout time.Duration) error {
	s, err := e.find(name)
	if err != nil {
		return err
	}
	if s.Status != specs.StateRunning {
		return nil // docker says so too
	}
	if err := e.Kill(s.ID, s.StopSignal); err != nil {
		return err
	}
	if e.waitEnd(s, timeout) == nil {
		return nil
	}
	if err := e.Kill(s.ID, "SIGKILL"); err != nil && !errors.Is(err, ErrNotRunning) && !errors.Is(err, ErrNoContainer) {
		return err
	}
	return e.waitEnd(s, killTime)
}

// running is find for a container that must run.
func (e Engine) running(name string) (State, error) {
	s, err := e.find(name)
	if err == nil && s.Status != specs.StateRunning {
		err = fmt.Errorf("%w: %s", ErrNotRunning, name)
	}
	return s, err
}

// waitEnd waits until a container has ended and its gocker has cleaned up.
func (e Engine) waitEnd(s State, timeout time.Duration) error {
	for deadline := time.Now().Add(timeout); isLocked(e.Dirs.Container(s.ID)); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return advice.Add(fmt.Errorf("container %s has not ended after %s", s.ID, timeout), "kill it: gocker kill %s", s.ID)
		}
	}
	return nil
}

func parseSignal(s string) (unix.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil && n > 0 && n < 65 {
		return unix.Signal(n), nil
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	return 0, advice.Add(fmt.Errorf("%w: %q", ErrSignal, s), "signals are those of signal(7), by name or number")
}
