//go:build linux

package life

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	mobyterm "github.com/moby/term"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"gocker/final/internal/attach"
	"gocker/final/internal/containers"
	"gocker/final/internal/describe"
	"gocker/step01-pull/shared/advice"
)

// AttachOptions are the flags of "gocker attach".
type AttachOptions struct {
	DetachKeys string          // docker's "ctrl-p,ctrl-q"; empty: none
	SigProxy   bool            // signals go on to the container
	Started    func(id string) // is called when a new container runs; may be nil
}

// These errors say why nothing can be attached to a container.
var (
	ErrNotAttachable = errors.New("no client can attach to the container")
	ErrNoTerminal    = errors.New("-t: standard input is no terminal")
	ErrLeft          = errors.New("left by the detach keys: what was started goes on")
)

// Attach connects the streams with a container that runs, and returns its status, or ErrLeft.
func (life Life) Attach(name string, opts AttachOptions, streams Streams) (status int, err error) {
	s, err := life.Containers.Running(name)
	if err != nil {
		return -1, err
	}
	if err := s.NotPaused(); err != nil {
		return -1, err
	}
	conn, err := attach.Dial(life.Containers.Dirs.Container(s.ID))
	if err != nil {
		return -1, advice.Add(fmt.Errorf("%w: %s: %w", ErrNotAttachable, name, err), "a container that was started with run --rm belongs to its terminal; see: gocker exec")
	}
	_, signals := catchSignals()
	defer signals.stop()
	life.Containers.Note("attach", s)
	return life.follow(s, conn, opts, streams, signals)
}

// canAttach tells, before anything is done, whether the streams and the keys are good for a container with these options.
func canAttach(opts describe.Options, attached AttachOptions, streams Streams) error {
	if opts.Terminal && opts.Interactive && streams.Stdin != nil && !term.IsTerminal(int(streams.Stdin.Fd())) {
		return advice.Add(ErrNoTerminal, "leave out -t, or run it from a terminal")
	}
	_, err := detachKeys(attached.DetachKeys)
	return err
}

// detachAttached hands a container over to a monitor. follow is what the user does meanwhile.
func (c *container) detachAttached(ctx context.Context, opts AttachOptions, streams Streams) (follow func(*signals) (int, error), err error) {
	conn, theirs, err := attach.Pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	if err := c.detach(ctx, theirs, consoleSize(streams)); err != nil {
		conn.Close()
		return nil, err
	}
	return func(signals *signals) (int, error) { return c.life.follow(c.State, conn, opts, streams, signals) }, nil
}

func detachKeys(named string) ([]byte, error) {
	if named == "" {
		return nil, nil
	}
	keys, err := mobyterm.ToBytes(named)
	if err != nil {
		return nil, advice.Add(fmt.Errorf("--detach-keys %q: %w", named, err), "write keys with commas between them: a letter, or ctrl- and a letter")
	}
	return keys, nil
}

// consoleSize is the size of the user's terminal, if there is one.
func consoleSize(streams Streams) *specs.Box {
	for _, stream := range []any{streams.Stdin, streams.Stdout} {
		if f, ok := stream.(*os.File); ok && f != nil {
			if width, height, err := term.GetSize(int(f.Fd())); err == nil {
				return &specs.Box{Width: uint(width), Height: uint(height)}
			}
		}
	}
	return nil
}

// followSize gives a container's terminal the size of the user's, now and whenever that changes, until stop is called.
func followSize(conn attach.Conn, streams Streams) (stop func()) {
	resized := make(chan os.Signal, 1)
	signal.Notify(resized, unix.SIGWINCH)
	resized <- unix.SIGWINCH // the terminal may have another size than the user's last one
	go func() {
		for range resized {
			if size := consoleSize(streams); size != nil {
				conn.Resize(uint16(size.Height), uint16(size.Width))
			}
		}
	}()
	return func() { signal.Stop(resized) }
}

// follow shows a container until its end, and gives it what the user types, until the user leaves.
func (life Life) follow(s containers.State, conn attach.Conn, opts AttachOptions, streams Streams, signals *signals) (status int, err error) {
	defer conn.Close()
	keys, err := detachKeys(opts.DetachKeys)
	if err != nil {
		return -1, err
	}
	if opts.SigProxy {
		signals.passTo(signalled{life, s.ID})
	} else {
		signals.stop() // they end us, as they would any program
	}
	in := streams.Stdin
	if !s.Options.Interactive {
		in = nil
	}
	isTerminal := s.Options.Terminal && in != nil && term.IsTerminal(int(in.Fd()))
	if isTerminal {
		before, err := term.MakeRaw(int(in.Fd()))
		if err != nil {
			return -1, fmt.Errorf("make the terminal raw: %w", err)
		}
		defer term.Restore(int(in.Fd()), before)
	}
	if s.Options.Terminal {
		defer followSize(conn, streams)()
	}
	left := make(chan struct{})
	if in != nil {
		go func() {
			var reader io.Reader = in
			if isTerminal {
				reader = mobyterm.NewEscapeProxy(in, keys)
			}
			if errors.As(conn.Type(reader), &mobyterm.EscapeError{}) {
				close(left)
			}
		}()
	}
	type result struct {
		status int
		err    error
	}
	over := make(chan result, 1)
	go func() {
		status, err := conn.Show(orDiscard(streams.Stdout), orDiscard(streams.Stderr))
		over <- result{status, err}
	}()
	select {
	case r := <-over:
		return r.status, r.err
	case <-left:
		life.Containers.Note("detach", s)
		return 0, ErrLeft
	}
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

// signalled sends signals to a container that another process runs.
type signalled struct {
	life Life
	id   string
}

func (s signalled) Signal(sig os.Signal) error {
	return s.life.signal(s.id, sig.(unix.Signal), passedOnBy(sig))
}
