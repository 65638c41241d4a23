//go:build linux

package life

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/attach"
	"gocker/final/internal/containers"
	"gocker/final/internal/describe"
	"gocker/final/internal/signame"
	"gocker/final/internal/tail"
	"gocker/step01-pull/shared/advice"
)

// killTime is how long a killed container may take to be cleaned up.
const killTime = 10 * time.Second

// Kill sends a signal, "SIGTERM", "TERM" or "15", to a container's first process. A process without a handler
// for it does not get it, unless it is SIGKILL or SIGSTOP: see pid_namespaces(7). After SIGKILL or its stop signal the restart
// policy does not start the container again.
func (life Life) Kill(name, signal string) error {
	sig, err := signame.Parse(signal)
	if err != nil {
		return err
	}
	s, err := life.Containers.Running(name)
	if err != nil {
		return err
	}
	if sig == unix.SIGKILL || sig == stopSignal(s) {
		life.noBoot(s.ID)
		life.noRestart(s.ID)
	}
	if err := life.signal(s.ID, sig, "gocker kill"); err != nil || sig != unix.SIGKILL {
		return err
	}
	return life.Containers.WaitEnd(s, killTime) // it cannot refuse: the next command is to find it ended
}

// stopSignal is the signal that asks a container to end. An image may name one that does not exist: docker sends SIGTERM then.
func stopSignal(s containers.State) unix.Signal {
	if sig, err := signame.Parse(s.StopSignal); err == nil {
		return sig
	}
	return unix.SIGTERM
}

// signal is Kill. by is what the container's record calls the sender.
func (life Life) signal(name string, sig unix.Signal, by string) error {
	s, err := life.Containers.Running(name)
	if err != nil {
		return err
	}
	// A pidfd: the number may soon be another process's.
	process, err := os.FindProcess(s.Pid)
	if err != nil {
		return err
	}
	defer process.Release()
	if err := life.Containers.Still(s); err != nil {
		return err
	}
	life.noteSent(s.ID, sig, by)
	if err := process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", name, err)
	}
	life.Containers.Note("kill", s, "signal", strconv.Itoa(int(sig)))
	return life.thawKilled(s)
}

// noBoot notes that a user stops a container. If that fails, it may be started at the next boot, at worst.
func (life Life) noBoot(id string) {
	life.Containers.Change(id, func(s *containers.State) { s.Stopped = true })
}

// noRestart tells a container's monitor, if it has one, that the container is not to be started again.
func (life Life) noRestart(id string) {
	if conn, err := attach.Dial(life.Containers.Dirs.Container(id)); err == nil {
		defer conn.Close()
		conn.Stop()
	}
}

// StopOptions are the flags of "gocker stop" and "gocker restart". An empty field is the container's own choice.
type StopOptions struct {
	Signal  string
	Seconds *int // until it is killed; negative: for ever
	Halt    bool // no user stops it, but the machine is about to stop: see Halt
}

// stopSeconds is how long docker waits if nobody has said another time.
const stopSeconds = 10

// Stop asks a container to end, by its stop signal, and kills it if it has not ended in time.
func (life Life) Stop(name string, opts StopOptions) error {
	s, err := life.Containers.Find(name)
	if err != nil || !s.Active() { // docker says so too
		return err
	}
	sig := stopSignal(s)
	if opts.Signal != "" {
		if sig, err = signame.Parse(opts.Signal); err != nil {
			return err
		}
	}
	seconds := stopSeconds
	if own := cmp.Or(opts.Seconds, s.Options.StopTimeout); own != nil {
		seconds = *own
	}
	if !opts.Halt {
		life.noBoot(s.ID)
	}
	life.noRestart(s.ID)
	over := func(err error) bool {
		return errors.Is(err, containers.ErrNotRunning) || errors.Is(err, containers.ErrNoContainer)
	}
	if err := life.signal(s.ID, sig, "gocker stop"); err != nil && !over(err) {
		return err
	}
	timeout := time.Duration(seconds) * time.Second
	if seconds < 0 {
		timeout = math.MaxInt64
	}
	if sig == unix.SIGKILL {
		timeout = killTime
	}
	if life.Containers.WaitEnd(s, timeout) != nil {
		if err := life.signal(s.ID, unix.SIGKILL, fmt.Sprintf("gocker stop, after %s,", timeout)); err != nil && !over(err) {
			return err
		}
		if err := life.Containers.WaitEnd(s, killTime); err != nil {
			return err
		}
	}
	life.Containers.Note("stop", s)
	return nil
}

// Restart stops a container that runs, and starts it.
func (life Life) Restart(name string, opts StopOptions) error {
	s, err := life.Containers.Find(name)
	if err != nil {
		return err
	}
	if err := life.Stop(s.ID, opts); err != nil {
		return err
	}
	if err := life.Start(s.ID, nil); err != nil {
		return err
	}
	life.Containers.Note("restart", s)
	return nil
}

// Wait can wait for these.
const (
	WaitStopped   = "stopped"   // it does not run, nor will be started again
	WaitNext      = "next-exit" // it ends, once more
	WaitRemoved   = "removed"
	WaitRunning   = "running"
	WaitHealthy   = string(docker.Healthy) // its health check says so
	WaitUnhealthy = string(docker.Unhealthy)
)

// Wait waits for a container, and returns its exit status.
func (life Life) Wait(name, condition string) (status int, err error) {
	s, err := life.Containers.Find(name)
	if err != nil {
		return -1, err
	}
	folder := life.Containers.Dirs.Container(s.ID)
	switch condition {
	case WaitStopped, "exited", "not-running":
		if !s.Active() {
			return s.ExitCode, nil
		}
		if err := life.Containers.WaitEnd(s, math.MaxInt64); err != nil {
			return -1, err
		}
	case WaitNext:
		for began := s.Started; ; time.Sleep(tail.PollTime) {
			now, err := life.Containers.Read(s.ID)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return -1, err
			}
			if err != nil || !now.Finished.IsZero() && !now.Started.Before(began) && s.Active() || now.Started.After(began) && !now.Finished.IsZero() {
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
			if s, err = life.Containers.Find(s.ID); err != nil {
				return -1, err
			}
		}
		return 0, nil
	case WaitHealthy, WaitUnhealthy:
		return 0, life.waitHealth(s, docker.HealthStatus(condition))
	default:
		return -1, advice.Add(fmt.Errorf("--condition %q: %w", condition, describe.ErrOption), "there are stopped, next-exit, removed, running, healthy and unhealthy")
	}
	if now, err := life.Containers.Find(s.ID); err == nil {
		return now.ExitCode, nil
	}
	if status, ok := life.Containers.Events().ExitCode(s.Whole()); ok {
		return status, nil
	}
	return -1, fmt.Errorf("%w any more: %s, and no event tells how it ended", containers.ErrNoContainer, name)
}
