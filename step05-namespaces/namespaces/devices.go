//go:build linux

package namespaces

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step05-namespaces/inside"
)

// defaultDevices are those without which programs do not work: see config-linux.md, "Default Devices".
var defaultDevices = []specs.LinuxDevice{
	{Path: "/dev/null", Type: "c", Major: 1, Minor: 3},
	{Path: "/dev/zero", Type: "c", Major: 1, Minor: 5},
	{Path: "/dev/full", Type: "c", Major: 1, Minor: 7},
	{Path: "/dev/random", Type: "c", Major: 1, Minor: 8},
	{Path: "/dev/urandom", Type: "c", Major: 1, Minor: 9},
	{Path: "/dev/tty", Type: "c", Major: 5, Minor: 0},
}

// makeDevices fills /dev: with the nodes that every container has, those of the spec, and some links.
func makeDevices(more []specs.LinuxDevice) error {
	for _, d := range append(defaultDevices[:len(defaultDevices):len(defaultDevices)], more...) {
		if err := makeDevice(d); err != nil {
			return fmt.Errorf("make the device %q: %w", d.Path, err)
		}
	}
	dev, err := inside.Find("/dev")
	if err != nil {
		return err
	}
	defer dev.Close()
	for link, target := range map[string]string{
		"ptmx": "pts/ptmx", "fd": "/proc/self/fd",
		"stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	} {
		if err := unix.Symlinkat(target, int(dev.Fd()), link); err != nil {
			return fmt.Errorf("make the link /dev/%s: %w", link, err)
		}
	}
	return nil
}

// deviceTypes are those of mknod(1): "u" is an old name for "c".
var deviceTypes = map[string]uint32{"c": unix.S_IFCHR, "u": unix.S_IFCHR, "b": unix.S_IFBLK, "p": unix.S_IFIFO}

// makeDevice makes a node. One that the spec has, too, takes the place of a default one.
func makeDevice(d specs.LinuxDevice) error {
	typ, ok := deviceTypes[d.Type]
	if !ok {
		return fmt.Errorf("type %q: not supported", d.Type)
	}
	mode := uint32(0o666)
	if d.FileMode != nil {
		mode = uint32(d.FileMode.Perm())
	}
	dir, name := filepath.Split(d.Path)
	folder, err := inside.FindOrMake(dir, false)
	if err != nil {
		return err
	}
	defer folder.Close()
	at := int(folder.Fd())
	err = unix.Mknodat(at, name, typ|mode, int(unix.Mkdev(uint32(d.Major), uint32(d.Minor))))
	if err == unix.EEXIST {
		if err = unix.Unlinkat(at, name, 0); err == nil {
			return makeDevice(d)
		}
	}
	if err != nil {
		return err
	}
	if err := unix.Fchmodat(at, name, mode, 0); err != nil { // mknod(2) obeys the umask
		return err
	}
	if d.UID == nil && d.GID == nil {
		return nil
	}
	return unix.Fchownat(at, name, id(d.UID), id(d.GID), unix.AT_SYMLINK_NOFOLLOW)
}

// id is an id for chown(2), where -1 means that it stays.
func id(n *uint32) int {
	if n == nil {
		return -1
	}
	return int(*n)
}

// findNull finds the null device, to hide files behind: the real one, which an image or a volume at /dev may not be.
func findNull() (*os.File, error) {
	null, err := inside.Find(os.DevNull)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: os.DevNull, Err: err}
	}
	var stat unix.Stat_t
	if err := unix.Fstat(int(null.Fd()), &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFCHR || stat.Rdev != unix.Mkdev(1, 3) {
		null.Close()
		return nil, fmt.Errorf("%s of the container is not the null device", os.DevNull)
	}
	return null, nil
}
