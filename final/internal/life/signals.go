//go:build linux

package life

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gocker/final/internal/containers"
	"gocker/final/internal/signame"
	"gocker/final/internal/why"
)

// signals takes the signals that would end this program, so that it always ends by returning.
type signals struct {
	ch     chan os.Signal
	once   sync.Once
	mu     sync.Mutex
	target interface{ Signal(os.Signal) error } // nil: nobody yet
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
			// PID 1 of a pid namespace gets only the signals that it has a handler for. A user who asks for the third time
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

func (s *signals) passTo(target interface{ Signal(os.Signal) error }) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.target = target
}

func (s *signals) stop() {
	s.once.Do(func() {
		signal.Stop(s.ch)
		close(s.ch)
	})
}

// mostSent is how many signals are noted, the last ones.
const mostSent = 8

// noteSent writes down that a signal is about to be sent to a container's first process. If that fails, it is sent all the
// same. The kernel does not tell who sent one.
func (life Life) noteSent(id string, sig os.Signal, by string) {
	sent := why.Sent{Time: time.Now(), Signal: signame.Of(sig.(syscall.Signal)), By: by}
	life.Containers.Change(id, func(s *containers.State) {
		s.End.Sent = append(s.End.Sent[max(0, len(s.End.Sent)-mostSent+1):], sent)
	})
}

// passedOn is a process that gets the signals that gocker gets.
type passedOn struct {
	Life
	id string
	to interface{ Signal(os.Signal) error }
}

func (p passedOn) Signal(sig os.Signal) error {
	p.noteSent(p.id, sig, passedOnBy(sig))
	return p.to.Signal(sig)
}

// passedOnBy names the sender of a signal that catchSignals passes on.
func passedOnBy(sig os.Signal) string {
	if sig == unix.SIGKILL { // nobody gets that
		return "gocker, asked to end for the third time,"
	}
	return "gocker, which got it itself,"
}
