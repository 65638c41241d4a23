//go:build linux

package namespaces

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step04-overlay/check"
)

// Stdio is what the process reads and writes where it has no terminal. A nil one is /dev/null.
//
// The process gets none of these files itself. /proc/self/fd/1 is not a copy of a descriptor, it is a name of the file: who
// has it can open the file anew, to read what was only to be written, and to /proc/self/fd/0/.. of a folder there is a way
// out. So it has pipes of its own, and what goes through them is copied.
type Stdio struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Typed          bool // there is no Stdin: it reads what is written to Process.Input
}

// streams are the standard input, output and error of a process.
type streams struct {
	owner   int        // who opens /dev/stdout opens the pipe anew, and must be allowed to
	theirs  []int      // all above 2: the child moves them to 0, 1 and 2, and none may be in the way of another
	ours    []*os.File // the other ends of pipes, until they flow
	typed   *os.File   // the one that is for Process.Input
	input   func()     // writes into one
	outputs []*output

	copying sync.WaitGroup
	mu      sync.Mutex
	err     error // of an output that could not be copied
}

// null is a descriptor that is yet to be opened: see openNull.
const null = -1

// open makes the streams for a user's process. discard closes what there is of them after an error.
func (s *streams) open(stdio Stdio, user specs.User) error {
	s.owner = int(user.UID)
	if err := s.openInput(stdio.Stdin, stdio.Typed); err != nil {
		return err
	}
	if err := s.openOutput(stdio.Stdout); err != nil {
		return err
	}
	if stdio.Stdout != nil && same(stdio.Stdout, stdio.Stderr) {
		return s.give(s.theirs[1]) // so what is written to both stays in order
	}
	return s.openOutput(stdio.Stderr)
}

// same tells whether two writers are one, or one file: a terminal, or 2>&1. What cannot be compared is not.
func same(a, b io.Writer) bool {
	defer func() { recover() }()
	if a, ok := a.(*os.File); ok {
		if b, ok := b.(*os.File); ok {
			one, err := a.Stat()
			other, otherErr := b.Stat()
			return err == nil && otherErr == nil && os.SameFile(one, other)
		}
	}
	return a == b
}

// give adds a copy of a descriptor to theirs.
func (s *streams) give(fd int) error {
	above2, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err == nil {
		s.theirs = append(s.theirs, above2)
	}
	return err
}

// openPipe opens a pipe, gives the process one end of it, 0 to read or 1 to write, and returns the other.
func (s *streams) openPipe(theirs int) (ours *os.File, err error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	defer unix.Close(ends[theirs])
	unix.SetNonblock(ends[1-theirs], true) // only ours: Go waits for it without a thread
	ours = os.NewFile(uintptr(ends[1-theirs]), "pipe")
	s.ours = append(s.ours, ours)
	if err := unix.Fchown(ends[theirs], s.owner, -1); err != nil {
		return nil, fmt.Errorf("chown a pipe: %w", err)
	}
	return ours, s.give(ends[theirs])
}

func (s *streams) openInput(in io.Reader, typed bool) error {
	if in == nil && !typed {
		s.theirs = append(s.theirs, null)
		return nil
	}
	f, isFile := in.(*os.File)
	if isFile {
		if info, err := f.Stat(); err == nil && info.IsDir() {
			return advice.Add(errors.New("standard input is a folder"), "a command can read a file; to show it a folder, mount that: -v FOLDER:/mnt")
		}
	}
	pipe, err := s.openPipe(0)
	switch {
	case typed:
		s.typed = pipe
	case isFile:
		s.input = func() { feed(f, pipe) }
	default:
		s.input = func() {
			io.Copy(pipe, in) // who does not read on to the end is no error
			pipe.Close()
		}
	}
	return err
}

func (s *streams) openOutput(out io.Writer) error {
	if out == nil {
		s.theirs = append(s.theirs, null)
		return nil
	}
	pipe, err := s.openPipe(1)
	s.outputs = append(s.outputs, newOutput(pipe, out))
	return err
}

// openNull opens the null device of the container that this thread is in. The host's would be a file of the host: whoever is
// root could change its mode.
func (s *streams) openNull() error {
	if !slices.Contains(s.theirs, null) {
		return nil
	}
	found, err := findNull()
	if err != nil {
		return err
	}
	defer found.Close()
	// What was found is what is opened, whatever has its name by now. The host's /proc knows us.
	device, err := check.Elsewhere(func() (*os.File, error) { return os.OpenFile(fmt.Sprint("/proc/self/fd/", found.Fd()), os.O_RDWR, 0) })()
	if err != nil {
		return err
	}
	defer device.Close()
	for i, fd := range s.theirs {
		if fd != null {
			continue
		}
		if s.theirs[i], err = unix.FcntlInt(device.Fd(), unix.F_DUPFD_CLOEXEC, 3); err != nil {
			return err
		}
	}
	return nil
}

// flow begins to copy, once the command is there: what it does not read is left to others.
func (s *streams) flow() {
	s.ours = nil
	if s.input != nil {
		go s.input()
	}
	for _, o := range s.outputs {
		s.copying.Go(func() {
			if err := o.copy(); err != nil {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.err = err
			}
		})
	}
}

// end says that the process has ended. What it started may live on and have its pipes: nobody waits for that.
func (s *streams) end() {
	for _, o := range s.outputs {
		o.pipe.SetReadDeadline(time.Unix(0, 0))
	}
}

// wait waits until all is copied that was written before the end. Input may wait for its source forever.
func (s *streams) wait() error {
	s.copying.Wait()
	return s.err
}

func (s *streams) closeTheirs() {
	for _, fd := range s.theirs {
		if fd != null {
			unix.Close(fd)
		}
	}
	s.theirs = nil
}

func (s *streams) discard() {
	s.closeTheirs()
	for _, f := range s.ours {
		f.Close()
	}
}
