//go:build linux

package runtime

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step03-layers/usernamespace"
	"gocker/step05-namespaces/inside"
	"gocker/step05-namespaces/namespaces"
	"gocker/step05-namespaces/rootfs"
)

// devices is the part that makes device nodes beside those that every container has: at once when there is a /dev, before
// anything of the host's is mounted below it.
func devices(spec *specs.Spec) namespaces.Part {
	return namespaces.Part{Mount: func(root *rootfs.Root, m specs.Mount) (bool, error) {
		if m.Destination != "/dev" {
			return false, nil
		}
		if err := root.Mount(m); err != nil {
			return true, err
		}
		for _, d := range spec.Linux.Devices {
			if err := makeDevice(d, spec); errors.Is(err, unix.EPERM) && usernamespace.Inside() {
				return true, fmt.Errorf("make the device %q: %w: a user who is not root makes no devices", d.Path, err)
			} else if err != nil {
				return true, fmt.Errorf("make the device %q: %w", d.Path, err)
			}
		}
		return true, nil
	}}
}

// deviceTypes are those of mknod(1): "u" is an old name for "c".
var deviceTypes = map[string]uint32{"c": unix.S_IFCHR, "u": unix.S_IFCHR, "b": unix.S_IFBLK, "p": unix.S_IFIFO}

// makeDevice makes a node. One that the spec has, too, takes the place of a default one.
func makeDevice(d specs.LinuxDevice, spec *specs.Spec) error {
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
			return makeDevice(d, spec)
		}
	}
	if err != nil {
		return err
	}
	if err := unix.Fchmodat(at, name, mode, 0); err != nil { // mknod(2) obeys the umask
		return err
	}
	if d.UID == nil && d.GID == nil && !ownsUsers(spec) {
		return nil
	}
	// Root of a user namespace is not to have the machine's disks: what the host's device does not let everybody do stays its owner's.
	return unix.Fchownat(at, name, id(d.UID), id(d.GID), unix.AT_SYMLINK_NOFOLLOW)
}

// id is an id for chown(2): root's, if nobody says.
func id(n *uint32) int {
	if n == nil {
		return 0
	}
	return int(*n)
}
