//go:build linux

package life

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	docker "github.com/moby/moby/api/types/container"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/containers"
	"gocker/final/internal/tail"
	"gocker/step01-pull/shared/advice"
	"gocker/step05-namespaces/namespaces"
)

// The process that runs a container asks it again and again whether it works: it runs the health check's command in there, as
// exec does. The rules are docker's: https://docs.docker.com/reference/dockerfile/#healthcheck.

// ErrNoHealthcheck says that a container has no health check.
var ErrNoHealthcheck = errors.New("the container has no health check")

// These are docker's times, for a health check that has none of its own.
const (
	probeInterval      = 30 * time.Second // from the end of a probe to the beginning of the next
	probeStartInterval = 5 * time.Second  // the same, while it starts
	probeTimeout       = 30 * time.Second
)

// orElse is a time of a health check. An image may have a shorter one than a user may choose: then it is the other.
func orElse(chosen, other time.Duration) time.Duration {
	if chosen < time.Millisecond {
		return other
	}
	return chosen
}

// keepProbing begins to ask a container that runs, until stop is called.
func (c *container) keepProbing() (stop func()) {
	if len(c.State.Probe) == 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	s := c.State
	go func() {
		defer close(over)
		for s.Health = docker.Starting; ; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pauseBeforeProbe(s)):
			}
			c.life.probe(ctx, s) // if it cannot be noted, the disk may have room next time
			if now, err := c.life.Containers.Read(s.ID); err == nil {
				s.Health = now.Health
			}
			debug.FreeOSMemory() // a probe needs some megabytes, and the next one may be far
		}
	}()
	return func() {
		cancel()
		<-over
	}
}

func pauseBeforeProbe(s containers.State) time.Duration {
	config := s.Options.Healthcheck
	if s.Health == docker.Starting && time.Since(s.Started) < config.StartPeriod {
		return orElse(config.StartInterval, probeStartInterval)
	}
	return orElse(config.Interval, probeInterval)
}

func noHealthcheck(s containers.State) error {
	return advice.Add(fmt.Errorf("%w: %s", ErrNoHealthcheck, s.Name), "a container gets one when it is made: gocker run --health-cmd COMMAND")
}

// Probe asks a container that runs once, at once, whether it works.
func (life Life) Probe(ctx context.Context, name string) (healthy bool, err error) {
	s, err := life.Containers.Running(name)
	if err != nil {
		return false, err
	}
	if len(s.Probe) == 0 {
		return false, noHealthcheck(s)
	}
	if err := s.NotPaused(); err != nil {
		return false, err
	}
	return life.probe(ctx, s)
}

// waitHealth waits until a container that runs, or will run, is healthy or unhealthy.
func (life Life) waitHealth(s containers.State, wanted docker.HealthStatus) (err error) {
	for {
		switch {
		case len(s.Probe) == 0:
			return noHealthcheck(s)
		case s.Status == specs.StateStopped:
			return fmt.Errorf("%w: %s", containers.ErrNotRunning, s.Name)
		case s.Status == specs.StateRunning && !s.Paused && s.HealthStatus() == wanted:
			return nil
		}
		time.Sleep(tail.PollTime)
		if s, err = life.Containers.Find(s.ID); err != nil {
			return err
		}
	}
}

// probe asks a container, and notes what it says. If the container is paused, or ctx ends meanwhile, it notes nothing.
func (life Life) probe(ctx context.Context, s containers.State) (healthy bool, err error) {
	var output firstBytes
	var late atomic.Bool
	timeout := orElse(s.Options.Healthcheck.Timeout, probeTimeout)
	r := docker.HealthcheckResult{Start: time.Now()}
	r.ExitCode, err = life.exec(s.ID, ExecOptions{Args: s.Probe, quiet: true}, Streams{Stdout: &output, Stderr: &output}, nil, func(p *namespaces.Process) {
		go life.endProbe(ctx, s.ID, p, timeout, &late)
	})
	r.End, r.Output = time.Now(), output.String()
	if r.ExitCode == 128+int(unix.SIGKILL) { // at a container's end the kernel kills all in there: that says nothing
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	switch {
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case errors.Is(err, containers.ErrPaused):
		return false, err
	case err != nil:
		r.ExitCode, r.Output = -1, err.Error()
	case late.Load():
		r.ExitCode, r.Output = -1, fmt.Sprintf("the health check took longer than %s, and was killed: %s", timeout, r.Output)
	}
	return r.ExitCode == 0, life.Containers.NoteProbe(s, r)
}

// endProbe kills a probe, and what it has started, if ctx ends first or it is late. In a paused container it gets more time.
func (life Life) endProbe(ctx context.Context, id string, p *namespaces.Process, timeout time.Duration, late *atomic.Bool) {
	for {
		select {
		case <-p.Ended():
			return
		case <-ctx.Done():
		case <-time.After(timeout):
			if s, err := life.Containers.Read(id); err == nil && s.Paused {
				continue
			}
			late.Store(true)
		}
		unix.Kill(-p.Pid, unix.SIGKILL) // it has a session of its own, and so a process group
		p.Kill()
		return
	}
}

// firstBytes keeps only the beginning of what is written, as much as docker keeps.
type firstBytes struct {
	kept []byte
	more bool
}

func (b *firstBytes) Write(p []byte) (int, error) {
	const most = 4096
	kept := min(len(p), most-len(b.kept))
	b.kept = append(b.kept, p[:kept]...)
	b.more = b.more || kept < len(p)
	return len(p), nil
}

func (b *firstBytes) String() string {
	if b.more {
		return string(b.kept) + "..."
	}
	return string(b.kept)
}
