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
)

// Namespaces hide things, they do not take power away: root in a container is root, with the same user id as the
// host's. What it may do is split into capabilities, and what is not hidden can be covered: see capabilities(7), and
// "Masked Paths" and "Readonly Paths" in config-linux.md. A spec that says nothing of them restricts nothing.

// dropPrivileges takes from the calling thread, and from what it becomes and starts, what the spec does not leave it.
func dropPrivileges(process *specs.Process) error {
	if err := dropCapabilities(process.Capabilities); err != nil {
		return err
	}
	if process.NoNewPrivileges { // from here on no setuid program gives more; see PR_SET_NO_NEW_PRIVS in prctl(2)
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("prctl PR_SET_NO_NEW_PRIVS: %w", err)
		}
	}
	return nil
}

// dropCapabilities takes away what the spec does not list, for this process and for all that it will ever start: the
// bounding set limits what execve(2) can give to root. The inheritable set is emptied, so that a file capability never
// gives more than the bounding set alone would.
func dropCapabilities(keep *specs.LinuxCapabilities) error {
	if keep == nil {
		return nil
	}
	known, err := capability.ListSupported()
	if err != nil {
		return fmt.Errorf("list the kernel's capabilities: %w", err)
	}
	caps, err := capability.NewPid2(0)
	if err != nil {
		return err
	}
	if err := caps.Load(); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	for _, c := range known {
		if !slices.Contains(keep.Bounding, capabilityName(c)) {
			caps.Unset(capability.BOUNDING, c)
		}
	}
	caps.Clear(capability.INHERITABLE)
	caps.Clear(capability.AMBIENT)
	// Bounding first: it needs CAP_SETPCAP, which may be among those that go.
	if err := caps.Apply(capability.BOUNDS); err != nil {
		return fmt.Errorf("drop capabilities: %w", err)
	}
	return caps.Apply(capability.CAPS | capability.AMBS)
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
		info, err := os.Stat(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("mask: %w", err)
		}
		if info.IsDir() {
			err = unix.Mount("tmpfs", path, "tmpfs", unix.MS_RDONLY, "size=0")
		} else {
			err = unix.Mount("/dev/null", path, "", unix.MS_BIND, "")
		}
		if err != nil {
			return fmt.Errorf("mask %q: %w", path, err)
		}
	}
	for _, path := range linux.ReadonlyPaths {
		err := unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, "")
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err == nil {
			// A bind takes no other flags; only a second mount of it does.
			err = unix.Mount("", path, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
		}
		if err != nil {
			return fmt.Errorf("make %q read-only: %w", path, err)
		}
	}
	return nil
}
