//go:build linux

package life

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/final/internal/containers"
	"gocker/final/internal/describe"
	"gocker/final/internal/why"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step04-overlay/story"
	"gocker/step05-namespaces/namespaces"
	"gocker/step06-cgroups/cgroups"
)

// Detach makes a container and runs it in the background. It returns its id once its command has started.
func (life Life) Detach(opts describe.Options, say func(format string, args ...any), tell story.Story) (id string, err error) {
	ctx, signals := catchSignals()
	defer signals.stop()
	c, err := life.create(ctx, opts, say, tell)
	if err != nil {
		return "", err
	}
	if err := c.detach(ctx, nil, nil); err != nil {
		return "", c.didNotStart(err)
	}
	return c.State.Whole(), nil
}

// Start starts a container in the background. If it runs already, that is no error.
func (life Life) Start(name string, tell story.Story) error {
	h, err := life.Containers.Take(name)
	if errors.Is(err, containers.ErrRunning) {
		return nil
	}
	if err != nil {
		return err
	}
	c := &container{Held: h, life: life}
	return c.start(tell, func() error { return c.detach(context.Background(), nil, nil) })
}

// StartAttached is Start for a user who stays to see it, and returns its status.
func (life Life) StartAttached(name string, opts AttachOptions, streams Streams, tell story.Story) (status int, err error) {
	h, err := life.Containers.Take(name)
	if err != nil {
		return -1, err
	}
	c := &container{Held: h, life: life}
	if err := canAttach(c.State.Options, opts, streams); err != nil {
		return -1, errors.Join(err, c.Close())
	}
	var follow func(*signals) (int, error)
	err = c.start(tell, func() (err error) {
		follow, err = c.detachAttached(context.Background(), opts, streams)
		return err
	})
	if err != nil {
		return -1, err
	}
	_, signals := catchSignals()
	defer signals.stop()
	return follow(signals)
}

// start makes a container ready, and hands it over.
func (c *container) start(tell story.Story, handOver func() error) error {
	err := c.Ready(tell)
	if err == nil {
		err = handOver()
	}
	if err == nil {
		return nil
	}
	return c.didNotStart(err)
}

// didNotStart keeps a container whose command did not start, and notes why, as docker does. A container with
// --rm is removed.
func (c *container) didNotStart(err error) error {
	// If a user has interrupted "run", they want no container.
	if interrupted := errors.As(err, &Interrupted{}); c.State.Options.Remove || interrupted && c.State.Status == specs.StateCreating {
		return errors.Join(err, c.Remove(true))
	}
	changeErr := c.Change(func(s *containers.State) {
		if s.Status == specs.StateCreating {
			s.Status = specs.StateCreated
		}
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

// detach hands a container over to a monitor, and returns when its command has started. If that fails, this
// process holds it again. Until the command has started, the end of ctx ends the container.
func (c *container) detach(ctx context.Context, watcher *os.File, console *specs.Box) error {
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
	process, err := inBackground(ctx, monitorName, request, files, c.FS.Tell)
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
