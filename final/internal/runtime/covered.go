//go:build linux

package runtime

import (
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step05-namespaces/inside"
	"gocker/step05-namespaces/namespaces"
)

// covered is the part that hides files behind /dev/null and folders behind an empty one, and makes others read-only, last
// of all the root. A path that is not there needs no cover. See "Masked Paths" and "Readonly Paths" in
// config-linux.md.
func covered(spec *specs.Spec) namespaces.Part {
	return namespaces.Part{Ready: func(*namespaces.Process) error {
		for _, path := range spec.Linux.MaskedPaths {
			if err := cover(path, mask); err != nil {
				return fmt.Errorf("mask %q: %w", path, err)
			}
		}
		for _, path := range spec.Linux.ReadonlyPaths {
			if err := cover(path, makeReadonly); err != nil {
				return fmt.Errorf("make %q read-only: %w", path, err)
			}
		}
		return readonlyRoot(spec.Root)
	}}
}

func readonlyRoot(root *specs.Root) error {
	if !root.Readonly {
		return nil
	}
	// Only this attribute: to mount(2) the others that are not said again, such as nodev, are taken back.
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
		return fmt.Errorf("make the root read-only: %w", err)
	}
	return nil
}

func cover(path string, how func(*os.File) error) error {
	f, err := inside.Find(path)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return how(f)
}

func mask(f *os.File) error {
	folder, err := inside.IsFolder(f)
	if err != nil {
		return err
	}
	if folder {
		return inside.MountOn(f, "tmpfs", "tmpfs", unix.MS_RDONLY, "size=0")
	}
	null, err := inside.FindNull()
	if err != nil {
		return err
	}
	defer null.Close()
	tree, err := inside.CloneTree(null, 0)
	if err != nil {
		return err
	}
	defer tree.Close()
	return inside.Attach(tree, f)
}

func makeReadonly(f *os.File) error {
	tree, err := inside.CloneTree(f, unix.AT_RECURSIVE)
	if err != nil {
		return err
	}
	defer tree.Close()
	const attrs = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	err = unix.MountSetattr(int(tree.Fd()), "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: attrs})
	if err != nil {
		return err
	}
	return inside.Attach(tree, f)
}
