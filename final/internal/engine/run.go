//go:build linux

package engine

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"gocker/final/internal/runtime"
	"gocker/step01-pull/advice"
	"gocker/step05-namespaces/namespaces"
)

// Streams are what a container reads and writes.
type Streams struct {
	Stdin          *os.File
	Stdout, Stderr io.Writer
	Started        func(id string) // called when its command runs; may be nil
}

// Run makes a container and runs it to its end. status is that of its command. On every way out the container's
// processes, mounts and cgroup are gone, and with opts.Remove, or if it never ran, its folder too.
func (e Engine) Run(opts RunOptions, streams Streams, say func(format string, args ...any)) (status int, err error) {
	// From here on a signal cancels ctx, and once the container runs, it is passed on to it instead.
	ctx, signals := catchSignals()
	defer signals.stop()
	c, err := e.create(ctx, opts, say)
	if err != nil {
		return -1, err
	}
	return c.run(streams, signals)
}

// run starts a new container, and returns when it has ended: then it is stopped, or removed.
func (c *container) run(streams Streams, signals *signals) (status int, err error) {
	status, err = c.once(streams, signals)
	if c.state.Started.IsZero() {
		return status, errors.Join(err, c.remove(true))
	}
	return status, c.end(err)
}

// end keeps or removes a container that has ended, with err.
func (c *container) end(err error) error {
	if c.state.Options.Remove {
		return errors.Join(err, c.remove(true))
	}
	if err != nil {
		c.state.Error = err.Error()
	}
	return errors.Join(err, c.close())
}

// once runs a container's process from its start to its end, and removes its cgroup. The state says what became of it.
func (c *container) once(streams Streams, signals *signals) (status int, err error) {
	stdio, terminal, err := c.connect(streams)
	if err != nil {
		return -1, err
	}
	if c.log != nil {
		stdio.Stdout, stdio.Stderr = c.log.stream("stdout"), c.log.stream("stderr")
		defer func() { err = errors.Join(err, c.log.flush()) }()
	}
	if err := c.joinOthers(); err != nil {
		return -1, err
	}
	p, err := runtime.Create(c.fs, c.spec, stdio, c.Tell)
	if err != nil {
		return -1, err
	}
	defer func() { err = errors.Join(err, p.Remove()) }()
	before := c.state
	c.state.Status, c.state.Pid, c.state.Monitor = specs.StateRunning, p.Pid, os.Getpid()
	c.state.Started, c.state.Finished, c.state.ExitCode, c.state.Error, c.state.OOMKilled = time.Now(), time.Time{}, 0, "", false
	if err := c.writeState(); err != nil {
		p.Abort()
		return -1, err
	}
	signals.passTo(p.Process)
	defer signals.passTo(nil)
	started := false
	status, err = p.Run(terminal, streams.Stdout, func() {
		started = true
		if streams.Started != nil {
			streams.Started(c.state.ID)
		}
	})
	if !started {
		c.state = before
		return -1, err
	}
	c.state.Status, c.state.Pid, c.state.Monitor = specs.StateStopped, 0, 0
	c.state.Finished, c.state.ExitCode = time.Now(), status
	if !c.state.Options.Remove { // else nobody will ask
		c.state.Usage, _ = p.Cgroup.Stats() // what the kernel does not count is 0
		c.state.OOMKilled = c.state.Usage.OOMKills > 0
	}
	return status, err
}

// connect says what the streams of a container's process are: the user's, pipes, or a terminal of its own.
func (c *container) connect(streams Streams) (stdio namespaces.Stdio, terminal *os.File, err error) {
	return connect(c.spec.Process, c.state.Options.Interactive, streams)
}

func connect(process *specs.Process, interactive bool, streams Streams) (stdio namespaces.Stdio, terminal *os.File, err error) {
	stdio = namespaces.Stdio{Stdout: hideTerminal(streams.Stdout), Stderr: hideTerminal(streams.Stderr)}
	if interactive && streams.Stdin != nil {
		stdio.Stdin = streams.Stdin
	}
	if !process.Terminal {
		return stdio, nil, nil
	}
	if terminal = namespaces.UseTerminal(process, streams.Stdin); terminal == nil {
		return stdio, nil, advice.Add(errors.New("-t: standard input is no terminal"), "leave out -t, or run it from a terminal")
	}
	if !interactive {
		terminal = nil
	}
	return stdio, terminal, nil
}

// hideTerminal puts a pipe between the container and a terminal of the host: a process that has the terminal itself
// could do more with it than write (ioctl_tty(2)). Files and pipes are passed on as they are.
func hideTerminal(out io.Writer) io.Writer {
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return struct{ io.Writer }{out}
	}
	return out
}

// signals takes the signals that would end this program, so that it always ends by returning.
type signals struct {
	ch     chan os.Signal
	mu     sync.Mutex
	target *namespaces.Process
}

// Interrupted is the error of a run that a signal ended before the container ran.
type Interrupted struct{ Signal syscall.Signal }

func (i Interrupted) Error() string { return "interrupted by signal: " + i.Signal.String() }

func catchSignals() (context.Context, *signals) {
	ctx, cancel := context.WithCancelCause(context.Background())
	s := &signals{ch: make(chan os.Signal, 16)}
	signal.Notify(s.ch, unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)
	go func() {
		asked := 0
		for sig := range s.ch {
			s.mu.Lock()
			target := s.target
			s.mu.Unlock()
			if target == nil {
				cancel(Interrupted{sig.(syscall.Signal)})
				continue
			}
			// PID 1 of a pid namespace gets only the signals that it has a handler for. Who asks for the third time
			// means it.
			if sig == unix.SIGINT || sig == unix.SIGTERM {
				asked++
			}
			if asked >= 3 {
				sig = unix.SIGKILL
			}
			target.Signal(sig)
		}
	}()
	return ctx, s
}

func (s *signals) passTo(p *namespaces.Process) {
	s.mu.Lock()
	s.target = p
	s.mu.Unlock()
}

func (s *signals) stop() {
	signal.Stop(s.ch)
	close(s.ch)
}
