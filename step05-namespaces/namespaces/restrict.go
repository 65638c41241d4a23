//go:build linux

package namespaces

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step04-overlay/story"
	"gocker/step05-namespaces/inside"
)

// Namespaces hide things, they do not take power away: root in a container is root, with the same user id as the
// host's. What it may do is split into capabilities, and what is not hidden can be covered: see capabilities(7), and
// "Masked Paths" and "Readonly Paths" in config-linux.md. A spec that says nothing of them restricts nothing.

// dropPrivileges takes from the calling thread, and from what it makes from now on, what the spec does not leave it. It
// can still set up a container.
func dropPrivileges(process *specs.Process, tell story.Story) error {
	if err := clearInheritable(); err != nil {
		return err
	}
	tell.Run(story.Become, "a program with file capabilities gets no more than its file says", "setpriv", "--inh-caps=-all", "--ambient-caps=-all")
	if process.Capabilities != nil {
		if err := boundCapabilities(process.Capabilities.Bounding); err != nil {
			return err
		}
		tell.Run(story.Become, "what root may still do", setprivBounding(process.Capabilities.Bounding)...)
	}
	if process.NoNewPrivileges { // from here on no setuid program gives more; see PR_SET_NO_NEW_PRIVS in prctl(2)
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("prctl PR_SET_NO_NEW_PRIVS: %w", err)
		}
		tell.Run(story.Become, "no setuid program gives more", "setpriv", "--no-new-privs")
	}
	return nil
}

// clearInheritable empties the sets of capabilities that go on to others than root: a program with file capabilities
// would get more than its file says.
func clearInheritable() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData // 32 capabilities each
	err := unix.Capget(&header, &sets[0])
	if err == nil {
		sets[0].Inheritable, sets[1].Inheritable = 0, 0
		err = unix.Capset(&header, &sets[0])
	}
	if err == nil {
		err = unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
	}
	if err != nil {
		return fmt.Errorf("empty the inheritable capabilities: %w", err)
	}
	return nil
}

// boundCapabilities takes what is not in keep away from the bounding set, which limits what execve(2) can give to root,
// now and ever after.
func boundCapabilities(keep []string) error {
	for c := capability.Cap(0); ; c++ {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0)
		if err == unix.EINVAL {
			return nil // the kernel has no more
		}
		if err == nil && has == 1 && !slices.Contains(keep, capabilityName(c)) {
			err = unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0)
		}
		if err != nil {
			return fmt.Errorf("drop %s: %w", capabilityName(c), err)
		}
	}
}

// Capabilities are the names of all capabilities that this kernel has, "CAP_CHOWN" and so on.
func Capabilities() ([]string, error) {
	known, err := capability.ListSupported()
	var names []string
	for _, c := range known {
		names = append(names, capabilityName(c))
	}
	return names, err
}

// capabilityName is a capability's name in the specification.
func capabilityName(c capability.Cap) string { return "CAP_" + strings.ToUpper(c.String()) }

// coverPaths hides files behind /dev/null and folders behind an empty one, and makes others read-only. What the image
// or the kernel does not have needs no cover.
func coverPaths(linux *specs.Linux) error {
	for _, path := range linux.MaskedPaths {
		if err := cover(path, mask); err != nil {
			return fmt.Errorf("mask %q: %w", path, err)
		}
	}
	for _, path := range linux.ReadonlyPaths {
		if err := cover(path, makeReadonly); err != nil {
			return fmt.Errorf("make %q read-only: %w", path, err)
		}
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
	null, err := findNull()
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
