package untar

import (
	"archive/tar"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// errOnlyRoot says that only root may make a device. Root of a user namespace may not.
var errOnlyRoot = errors.New("only root may make a device")

// mknod makes a fifo or a device node. A device is only a number with a door: see mknod(2). errOnlyRoot says that this process may
// make none.
func (f folder) mknod(base string, header *tar.Header) error {
	mode := map[byte]uint32{tar.TypeFifo: unix.S_IFIFO, tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK}[header.Typeflag]
	// The kernel has 12 bits for the one and 20 for the other, and drops the rest: 4096/0 would be made as 0/0.
	if header.Devmajor>>12 != 0 || header.Devminor>>20 != 0 {
		return fmt.Errorf("%w: no device is %d/%d", ErrArchive, header.Devmajor, header.Devminor)
	}
	device := unix.Mkdev(uint32(header.Devmajor), uint32(header.Devminor))
	if err := unix.Mknodat(int(f.file.Fd()), base, mode|0o600, int(device)); errors.Is(err, unix.EPERM) && mode != unix.S_IFIFO {
		return errOnlyRoot
	} else if err != nil {
		return fmt.Errorf("mknod %q: %w", base, err)
	}
	return nil
}

// setXattrs sets the extended attributes, which tar keeps in PAX records: see xattr(7). It calls leftOut for one that has
// no place here: of a kind that the file system does not know, such as macOS's com.apple.provenance, or a user's on what is
// neither file nor folder, or one that only the machine's root may set, which root of a user namespace is not.
func (f folder) setXattrs(base string, records map[string]string, leftOut func(xattr string)) error {
	for _, key := range slices.Sorted(maps.Keys(records)) {
		attr, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if !ok {
			continue
		}
		// There is no lsetxattrat in kernels before 6.13, but a path through a descriptor does the same.
		err := unix.Lsetxattr(fmt.Sprintf("/proc/self/fd/%d/%s", f.file.Fd(), base), attr, []byte(records[key]), 0)
		if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) && attr != "security.capability" {
			leftOut(attr)
			continue
		}
		if err != nil {
			return fmt.Errorf("set xattr %s of %q: %w", attr, base, err)
		}
	}
	return nil
}
