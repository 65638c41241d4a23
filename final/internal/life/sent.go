//go:build linux

package life

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"gocker/final/internal/containers"
	"gocker/final/internal/resources"
	"gocker/final/internal/why"
)

// mostSent is how many signals are noted, the last ones.
const mostSent = 8

// noteSent writes down that a signal is about to be sent to a container's first process. If that fails, it is sent all the
// same. The kernel does not tell who sent one.
func (life Life) noteSent(id string, sig os.Signal, by string) {
	sent := why.Sent{Time: time.Now(), Signal: unix.SignalName(sig.(syscall.Signal)), By: by}
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

// passedOnBy is who sent a signal that catchSignals passes on.
func passedOnBy(sig os.Signal) string {
	if sig == unix.SIGKILL { // nobody gets that
		return "gocker, asked to end for the third time,"
	}
	return "gocker, which got it itself,"
}

// errors is where those who look at a container read what is not its output.
func (c *container) errors(streams Streams) io.Writer {
	if streams.Stderr == nil && c.server != nil {
		return c.server.Stderr()
	}
	return orDiscard(streams.Stderr)
}

// usageLine is what a container used, as the kernel counted. A terminal that passes keys on as they are wants a CR, too.
func usageLine(u resources.Stats, terminal bool) string {
	end := "\n"
	if terminal {
		end = "\r\n"
	}
	memory := "not counted by this kernel"
	if u.MemoryPeak > 0 {
		memory = units.BytesSize(float64(u.MemoryPeak)) + " at most"
	}
	return fmt.Sprintf("usage: memory %s, processor %s, read %s, written %s%s", memory, u.CPU.Round(time.Millisecond),
		units.BytesSize(float64(u.Read)), units.BytesSize(float64(u.Written)), end)
}
