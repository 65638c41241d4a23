//go:build linux

package terminal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"gocker/step05-namespaces/inside"
	"gocker/step05-namespaces/namespaces"
)

// openTerminal makes a pseudo-terminal of the container's own devpts, so that its name, /dev/pts/0, means the same
// inside. Both sides come from the devpts itself: in a container that runs, a name may be anything. See pty(7) and
// TIOCGPTPEER in ioctl_tty(2).
func openTerminal(process *specs.Process) (master, slave *os.File, err error) {
	const ptmx = "/dev/pts/ptmx"
	fd, err := unix.Openat2(unix.AT_FDCWD, ptmx, &unix.OpenHow{
		Flags: unix.O_RDWR | unix.O_NOCTTY | unix.O_NONBLOCK | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, nil, &os.PathError{Op: "open", Path: ptmx, Err: err}
	}
	master = os.NewFile(uintptr(fd), ptmx)
	defer func() {
		if err != nil {
			master.Close()
		}
	}()
	if !inside.IsFileSystem(master, unix.DEVPTS_SUPER_MAGIC) {
		return nil, nil, fmt.Errorf("%s is not of a devpts", ptmx)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, fmt.Errorf("unlock it: %w", err)
	}
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return nil, nil, fmt.Errorf("open its other side: %w", errno)
	}
	slave = os.NewFile(peer, "terminal")
	if size := process.ConsoleSize; size != nil {
		err = unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(size.Height), Col: uint16(size.Width)})
		if err != nil {
			slave.Close()
			return nil, nil, fmt.Errorf("set its size: %w", err)
		}
	}
	if err = unix.Fchown(int(slave.Fd()), int(process.User.UID), -1); err != nil {
		slave.Close()
		return nil, nil, fmt.Errorf("chown it: %w", err)
	}
	return master, slave, nil
}

// takeTerminal opens a terminal in the container that this thread is in: the master for us, the slave for the process.
func (s *Streams) takeTerminal() error {
	master, slave, err := openTerminal(s.process)
	if err != nil {
		return err
	}
	defer slave.Close()
	s.Terminal = master
	for range 3 {
		if err := s.give(int(slave.Fd())); err != nil {
			return err
		}
	}
	if !s.first {
		return nil
	}
	return bindConsole(slave)
}

// bindConsole makes the terminal of the first process /dev/console: some programs write there in any case. See
// config-linux.md, "Default Devices".
func bindConsole(slave *os.File) error {
	point, err := inside.FindOrMake("/dev/console", true)
	if err != nil {
		return err
	}
	defer point.Close()
	tree, err := inside.CloneTree(slave, 0)
	if err == nil {
		defer tree.Close()
		err = inside.Attach(tree, point)
	}
	if err != nil {
		return fmt.Errorf("bind it on /dev/console: %w", err)
	}
	return nil
}

// Use makes a process ask for a terminal as large as stdin's, where stdin is one; else it returns nil.
func Use(process *specs.Process, stdin any) *os.File {
	f, ok := stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	process.Terminal = true
	if !slices.ContainsFunc(process.Env, func(v string) bool { return strings.HasPrefix(v, "TERM=") }) {
		process.Env = append(process.Env, "TERM=xterm")
	}
	if width, height, err := term.GetSize(int(f.Fd())); err == nil {
		process.ConsoleSize = &specs.Box{Width: uint(width), Height: uint(height)}
	}
	return f
}

// Attach connects the user's terminal with the container's until the latter is closed from inside: keys go in as they
// are typed, output comes out, and a new window size is passed on. Without stdin it only shows. typed is where the keys are
// read: stdin, or a reader that looks at them first. If that returns ErrLeft, so does Attach, and the container's terminal stays open.
func Attach(master, stdin *os.File, typed io.Reader, stdout io.Writer) error {
	over := make(chan error, 2)
	if stdin != nil {
		state, err := term.MakeRaw(int(stdin.Fd()))
		if err != nil {
			return fmt.Errorf("make the terminal raw: %w", err)
		}
		defer term.Restore(int(stdin.Fd()), state)
		resized := make(chan os.Signal, 1)
		signal.Notify(resized, unix.SIGWINCH)
		defer close(resized)
		defer signal.Stop(resized)
		go func() {
			for range resized {
				if size, err := unix.IoctlGetWinsize(int(stdin.Fd()), unix.TIOCGWINSZ); err == nil {
					unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, size)
				}
			}
		}()
		go func() {
			if _, err := io.Copy(master, typed); errors.Is(err, ErrLeft) {
				over <- err
			}
		}()
	}
	go func() {
		defer master.Close()
		_, err := io.Copy(stdout, master)
		if errors.Is(err, unix.EIO) { // the last process has closed the slave side: that is the end
			err = nil
		}
		over <- err
	}()
	return <-over
}

// ErrLeft says that the user has left a process that goes on.
var ErrLeft = errors.New("left by its user")

// ForUser are the streams of a process for somebody at a terminal: where stdin is one, the process has one of its own.
func ForUser(process *specs.Process, stdin io.Reader, stdout, stderr io.Writer) *Streams {
	s := New(process, Stdio{Stdin: stdin, Stdout: stdout, Stderr: stderr})
	s.user = Use(process, stdin)
	return s
}

// Run starts a process that has these streams, connects its terminal with the user's, and waits for its end.
func (s *Streams) Run(p *namespaces.Process) (status int, err error) {
	if err := p.Start(); err != nil {
		return -1, err
	}
	return s.Follow(p, s.user, s.user)
}

// Follow is the rest of Run, for a process that has started. typed is as for Attach; after ErrLeft the process goes on.
func (s *Streams) Follow(p *namespaces.Process, stdin *os.File, typed io.Reader) (status int, err error) {
	if s.Terminal != nil {
		if err := Attach(s.Terminal, stdin, typed, s.stdio.Stdout); err != nil {
			if !errors.Is(err, ErrLeft) {
				p.Abort()
			}
			return -1, err
		}
	}
	return p.Wait()
}
