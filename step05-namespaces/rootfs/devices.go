//go:build linux

package rootfs

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step05-namespaces/inside"
)

// DefaultDevices are those without which programs do not work: see config-linux.md, "Default Devices".
var DefaultDevices = []specs.LinuxDevice{
	{Path: "/dev/null", Type: "c", Major: 1, Minor: 3},
	{Path: "/dev/zero", Type: "c", Major: 1, Minor: 5},
	{Path: "/dev/full", Type: "c", Major: 1, Minor: 7},
	{Path: "/dev/random", Type: "c", Major: 1, Minor: 8},
	{Path: "/dev/urandom", Type: "c", Major: 1, Minor: 9},
	{Path: "/dev/tty", Type: "c", Major: 5, Minor: 0},
}

// devLinks are names that programs expect in /dev.
var devLinks = [][2]string{
	{"ptmx", "pts/ptmx"}, {"fd", "/proc/self/fd"},
	{"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"},
}

// fillDev makes the device nodes that every container has, or binds those that the host lends, and the links, in a /dev that is empty.
func (l lent) fillDev() error {
	dev, err := inside.Find("/dev")
	if err != nil {
		return err
	}
	defer dev.Close()
	at := int(dev.Fd())
	for _, d := range DefaultDevices {
		name := d.Path[len("/dev/"):]
		if bound, err := l.device(d.Path, at, name); err != nil {
			return fmt.Errorf("bind the host's device %q: %w", d.Path, err)
		} else if bound {
			continue
		}
		err := unix.Mknodat(at, name, unix.S_IFCHR|0o666, int(unix.Mkdev(uint32(d.Major), uint32(d.Minor))))
		if err == nil {
			err = unix.Fchmodat(at, name, 0o666, 0) // mknod(2) obeys the umask
		}
		if err != nil {
			return fmt.Errorf("make the device %q: %w", d.Path, err)
		}
	}
	for _, link := range devLinks {
		if err := unix.Symlinkat(link[1], at, link[0]); err != nil {
			return fmt.Errorf("make the link /dev/%s: %w", link[0], err)
		}
	}
	return nil
}
