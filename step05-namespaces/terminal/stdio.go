//go:build linux

// Package terminal connects a process with its user: by pipes, or by a terminal of its own.
//
//	streams := terminal.ForUser(spec.Process, stdin, stdout, stderr)
//	p, err := namespaces.Create(spec, streams)
//	status, err := streams.Run(p)
package terminal

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
	"gocker/step05-namespaces/birth"
	"gocker/step05-namespaces/inside"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/rootfs"
)

// Stdio is what the process reads and writes where it has no terminal. A nil one is /dev/null.
//
// The process gets none of these files itself. /proc/self/fd/1 is not a copy of a descriptor, it is a name of the file: a
// process that has it can open the file anew, to read what was only to be written, and to /proc/self/fd/0/.. of a folder
// there is a way out. So it has pipes of its own, and what goes through them is copied.
type Stdio struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Typed          bool // there is no Stdin: it reads what is written to Streams.Input
}

// Streams are the standard input, output and error of a process.
type Streams struct {
	// Terminal is the master side of the process's terminal, if it has one. Follow closes it; or the caller does.
	Terminal *os.File
	// Input is where the process reads from, with Stdio.Typed. The caller closes it.
	Input *os.File

	process *specs.Process
	first   bool // it is the container's first one
	stdio   Stdio
	user    *os.File // the terminal that the process's is connected with, or nil

	theirs  []int      // all above 2: the child moves them to 0, 1 and 2, and none may be in the way of another
	ours    []*os.File // the other ends of pipes, until they flow
	input   func()     // writes into one
	outputs []*output
	flows   bool

	copying sync.WaitGroup
	mu      sync.Mutex
	err     error // of an output that could not be copied
}

// New are the streams of a process: a terminal, if the process wants one, else stdio.
func New(process *specs.Process, stdio Stdio) *Streams {
	return &Streams{process: process, stdio: stdio}
}

// Part is what the streams do at their moments: see namespaces.Part. The files for 0, 1 and 2 of the process stay open
// until the setup is over, and data flows when it executes its command.
func (s *Streams) Part() namespaces.Part {
	return namespaces.Part{
		Outside: func() error {
			if s.process.Terminal {
				return nil
			}
			return s.open()
		},
		Mount: func(*rootfs.Root, specs.Mount) (bool, error) {
			s.first = true // the root is being made: with Join nothing is mounted
			return false, nil
		},
		Inside: func() error {
			if !s.process.Terminal {
				return nil
			}
			if err := s.takeTerminal(); err != nil {
				return fmt.Errorf("open a terminal: %w", err)
			}
			return nil
		},
		Done: func(err error) {
			s.closeTheirs()
			if err != nil {
				s.discard()
			}
		},
		Started: s.flow,
		Ended: func(unix.WaitStatus) {
			s.end()
			if !s.flows {
				s.discard()
			}
		},
	}
}

// Connect moves what the process has to 0, 1 and 2. The terminal of a session is where its Ctrl-C comes from.
func (s *Streams) Connect(list *birth.List) error {
	if err := s.openNull(); err != nil {
		return advice.Add(err, "exec -i needs no null device for its input")
	}
	for fd, from := range s.theirs {
		list.Add("dup3", unix.SYS_DUP3, from, fd, 0)
	}
	if s.process.Terminal {
		list.Add("make it the controlling terminal", unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
	}
	return nil
}

// null is a descriptor that is yet to be opened: see openNull.
const null = -1

// open opens what stdio is.
func (s *Streams) open() error {
	if err := s.openInput(s.stdio.Stdin, s.stdio.Typed); err != nil {
		return err
	}
	if err := s.openOutput(s.stdio.Stdout); err != nil {
		return err
	}
	if s.stdio.Stdout != nil && same(s.stdio.Stdout, s.stdio.Stderr) {
		return s.give(s.theirs[1]) // so what is written to both stays in order
	}
	return s.openOutput(s.stdio.Stderr)
}

// same tells whether two writers are one, or one file: a terminal, or 2>&1. Writers that cannot be compared are two.
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
func (s *Streams) give(fd int) error {
	above2, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err == nil {
		s.theirs = append(s.theirs, above2)
	}
	return err
}

// openPipe opens a pipe, gives the process one end of it, 0 to read or 1 to write, and returns the other. A process that
// opens /dev/stdout opens the pipe anew, so it is its user's.
func (s *Streams) openPipe(theirs int) (ours *os.File, err error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	defer unix.Close(ends[theirs])
	unix.FcntlInt(uintptr(ends[0]), unix.F_SETPIPE_SZ, mostMoved) // if it may not hold more, it holds less
	unix.SetNonblock(ends[1-theirs], true)                        // only ours: Go waits for it without a thread
	ours = os.NewFile(uintptr(ends[1-theirs]), "pipe")
	s.ours = append(s.ours, ours)
	if err := unix.Fchown(ends[theirs], int(s.process.User.UID), -1); err != nil {
		return nil, fmt.Errorf("chown a pipe: %w", err)
	}
	return ours, s.give(ends[theirs])
}

func (s *Streams) openInput(in io.Reader, typed bool) error {
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
		s.Input = pipe
	case isFile:
		s.input = func() { feed(f, pipe) }
	default:
		s.input = func() {
			io.Copy(pipe, in) // a process that does not read to the end is no error
			pipe.Close()
		}
	}
	return err
}

func (s *Streams) openOutput(out io.Writer) error {
	if out == nil {
		s.theirs = append(s.theirs, null)
		return nil
	}
	pipe, err := s.openPipe(1)
	s.outputs = append(s.outputs, newOutput(pipe, out))
	return err
}

// openNull opens the null device of the container that this thread is in. The host's would be a file of the host: a process that is
// root could change its mode.
func (s *Streams) openNull() error {
	if !slices.Contains(s.theirs, null) {
		return nil
	}
	found, err := inside.FindNull()
	if err != nil {
		return err
	}
	defer found.Close()
	// This opens the file that was found, even if its name means another file by now. The host's /proc knows us.
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
func (s *Streams) flow() {
	s.flows, s.ours = true, nil
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

// end says that the process has ended. Its children may live on and have its pipes: nobody waits for them.
func (s *Streams) end() {
	for _, o := range s.outputs {
		o.pipe.SetReadDeadline(time.Unix(0, 0))
	}
}

// Wait waits until all is copied that was written before the end. Input may wait for its source forever.
func (s *Streams) Wait() error {
	s.copying.Wait()
	return s.err
}

func (s *Streams) closeTheirs() {
	for _, fd := range s.theirs {
		if fd != null {
			unix.Close(fd)
		}
	}
	s.theirs = nil
}

// discard closes what nothing has flown through.
func (s *Streams) discard() {
	for _, f := range s.ours {
		f.Close()
	}
	if s.Terminal != nil {
		s.Terminal.Close()
	}
}
