//go:build linux

package namespaces

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
)

// openTerminal makes a pseudo-terminal of the container's own devpts, so that its name, /dev/pts/0, means the same
// inside. See pty(7).
func openTerminal(process *specs.Process) (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/pts/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			master.Close()
		}
	}()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, fmt.Errorf("unlock it: %w", err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		return nil, nil, fmt.Errorf("ask its number: %w", err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
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
func (p *Process) takeTerminal(process *specs.Process) (name string, err error) {
	master, slave, err := openTerminal(process)
	if err != nil {
		return "", err
	}
	defer slave.Close()
	p.Terminal, p.streams = master, &streams{}
	for range 3 {
		if err := p.streams.give(int(slave.Fd())); err != nil {
			return "", err
		}
	}
	return slave.Name(), nil
}

// bindConsole makes the terminal of the first process /dev/console: some programs write there, whoever they are. See
// config-linux.md, "Default Devices".
func bindConsole(slave string) error {
	if err := os.WriteFile("/dev/console", nil, 0o600); err != nil {
		return err
	}
	if err := unix.Mount(slave, "/dev/console", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind it on /dev/console: %w", err)
	}
	return nil
}

// UseTerminal makes a process ask for a terminal as large as stdin's, where stdin is one; else it returns nil.
func UseTerminal(process *specs.Process, stdin any) *os.File {
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
// are typed, output comes out, and a new window size is passed on. Without stdin it only shows.
func Attach(master, stdin *os.File, stdout io.Writer) error {
	defer master.Close()
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
		go io.Copy(master, stdin)
	}
	// When the last process has closed the slave side, reading from the master fails with EIO: that is the end.
	if _, err := io.Copy(stdout, master); err != nil && !errors.Is(err, unix.EIO) {
		return err
	}
	return nil
}
