//go:build linux

package namespaces

import (
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Stdio is what the process reads and writes where it has no terminal: it gets a file as it is, and a pipe to all else.
// A nil one is /dev/null.
type Stdio struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// streams are the standard input, output and error of a process.
type streams struct {
	theirs  []int      // all above 2: the child moves them to 0, 1 and 2, and none may be in the way of another
	ours    []*os.File // the other ends of pipes
	input   func()     // writes into one
	outputs []func() error

	copying sync.WaitGroup
	mu      sync.Mutex
	err     error // of an output that could not be copied
}

func openStreams(stdio Stdio) (s *streams, err error) {
	s = &streams{}
	defer func() {
		if err != nil {
			s.discard()
		}
	}()
	if err := s.openInput(stdio.Stdin); err != nil {
		return nil, err
	}
	if err := s.openOutput(stdio.Stdout); err != nil {
		return nil, err
	}
	if same(stdio.Stdout, stdio.Stderr) {
		return s, s.give(s.theirs[1]) // so what is written to both stays in order
	}
	return s, s.openOutput(stdio.Stderr)
}

// same tells whether two writers are one. What cannot be compared is not.
func same(a, b io.Writer) bool {
	defer func() { recover() }()
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

func (s *streams) openInput(in io.Reader) error {
	switch in := in.(type) {
	case nil:
		return s.openNull(os.O_RDONLY)
	case *os.File:
		return s.give(int(in.Fd()))
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return err
	}
	defer reader.Close()
	s.ours = append(s.ours, writer)
	s.input = func() {
		io.Copy(writer, in) // who does not read on to the end is no error
		writer.Close()
	}
	return s.give(int(reader.Fd()))
}

func (s *streams) openOutput(out io.Writer) error {
	switch out := out.(type) {
	case nil:
		return s.openNull(os.O_WRONLY)
	case *os.File:
		return s.give(int(out.Fd()))
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return err
	}
	defer writer.Close()
	s.ours = append(s.ours, reader)
	s.outputs = append(s.outputs, func() error {
		defer reader.Close() // whoever writes on gets SIGPIPE
		_, err := io.Copy(out, reader)
		return err
	})
	return s.give(int(writer.Fd()))
}

func (s *streams) openNull(flag int) error {
	null, err := os.OpenFile(os.DevNull, flag, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	return s.give(int(null.Fd()))
}

// flow begins to copy, once the process has its ends.
func (s *streams) flow() {
	s.closeTheirs()
	if s.input != nil {
		go s.input()
	}
	for _, output := range s.outputs {
		s.copying.Go(func() {
			if err := output(); err != nil {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.err = err
			}
		})
	}
}

// wait waits until all that was written is copied. Input may wait for its source forever.
func (s *streams) wait() error {
	s.copying.Wait()
	return s.err
}

func (s *streams) closeTheirs() {
	for _, fd := range s.theirs {
		unix.Close(fd)
	}
	s.theirs = nil
}

func (s *streams) discard() {
	s.closeTheirs()
	for _, f := range s.ours {
		f.Close()
	}
}
