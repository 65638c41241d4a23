//go:build linux

package life

import (
	"os"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/final/internal/containers"
	"gocker/step01-pull/shared/dirs"
	"gocker/step04-overlay/story"
)

// gocker has no daemon. But a process must wait for a detached container, write its log and clean up after it: a monitor. It
// runs the container in the background as Run does.
const monitorName = "gocker-monitor"

// A monitorRequest says what the monitor is to do. The monitor also gets the container's lock and, if a user wants to see the
// container's output, one end of a connection.
type monitorRequest struct {
	Dirs    dirs.Dirs
	ID      string
	Console *specs.Box // the size of that user's terminal
	Watched bool       // there is such a connection
	Tells   bool       // what it does
}

// Monitor does nothing, unless this process is a monitor: then it never returns.
func Monitor() {
	var r monitorRequest
	if !isStartedAs(monitorName, &r) {
		return
	}
	for fd := range 2 {
		syscall.CloseOnExec(extraFiles + fd)
	}
	var tell story.Story
	if r.Tells {
		tell = tellStarter
	}
	c, err := New(r.Dirs).adopt(r.ID, os.NewFile(extraFiles, "lock"), tell)
	if err == nil && r.Watched {
		err = c.server.Serve(os.NewFile(extraFiles+1, "watcher"))
	}
	if err != nil {
		begun(err)
		os.Exit(0)
	}
	c.Spec.Process.ConsoleSize = r.Console
	c.keep()
	os.Exit(0)
}

// adopt takes a container over from the process that started this one.
func (life Life) adopt(id string, lock *os.File, tell story.Story) (c *container, err error) {
	h, err := life.Containers.Adopt(id, lock, tell)
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

// keep runs a container as often as its restart policy wants. It tells what became of the first start. If that
// failed, the process that asked for it holds the container again.
func (c *container) keep() {
	ctx, signals := catchSignals()
	c.kept = true
	hasBegun := false
	pause := firstPause
	for {
		status, err := c.once(ctx, Streams{}, signals, func() {
			if !hasBegun {
				begun(nil)
				hasBegun = true
				debug.FreeOSMemory() // from now on little is needed, for long
			}
		})
		if !hasBegun {
			begun(err)
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
