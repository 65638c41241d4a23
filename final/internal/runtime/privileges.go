//go:build linux

package runtime

import (
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"github.com/moby/sys/capability"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/capabilities"
	"gocker/step01-pull/shared/advice"
	"gocker/step03-layers/usernamespace"
	"gocker/step05-namespaces/birth"
	"gocker/step05-namespaces/namespaces"
)

// Namespaces hide things, they do not take power away: root in a container is root, with the same user id as the
// host's. Its rights are split into capabilities: see capabilities(7). A spec that says nothing of them restricts
// nothing.

// privileges is the part that takes from the thread, and from the child, what the spec does not leave it. The thread can
// still set up a container.
func privileges(process *specs.Process) namespaces.Part {
	return namespaces.Part{Inside: func() error {
		if err := errors.Join(clearInheritable(), ownKeys()); err != nil {
			return err
		}
		if process.Capabilities != nil {
			if err := boundCapabilities(process.Capabilities.Bounding); err != nil {
				return err
			}
		}
		if process.NoNewPrivileges { // from here on no setuid program gives more; see PR_SET_NO_NEW_PRIVS in prctl(2)
			if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
				return fmt.Errorf("prctl PR_SET_NO_NEW_PRIVS: %w", err)
			}
		}
		return nil
	}}
}

// ownKeys gives the thread a session keyring of its own: that of whoever started gocker has keys which are not for containers. See
// session-keyring(7). Where the kernel has no keys, or something denies them, the container gets to none either.
func ownKeys() error {
	_, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0)
	switch err {
	case unix.ENOSYS, unix.EPERM, unix.EACCES:
		return nil
	case unix.EDQUOT:
		return advice.Add(fmt.Errorf("make a session keyring: %w", err), "each container has one; as root: sysctl kernel.keys.maxkeys=2000 kernel.keys.maxbytes=200000")
	}
	return err
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
		if err == nil && has == 1 && !slices.Contains(keep, capabilities.Name(c)) {
			err = unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0)
		}
		if err != nil {
			return fmt.Errorf("drop %s: %w", capabilities.Name(c), err)
		}
	}
}

// checkUser says that a command is to be another user's than root's, where there is no other.
func checkUser(user specs.User) error {
	others := slices.ContainsFunc(user.AdditionalGids, func(gid uint32) bool { return gid != 0 })
	if !usernamespace.Alone() || user.UID == 0 && user.GID == 0 && !others {
		return nil
	}
	err := fmt.Errorf("user %d, group %d: this user namespace has root only", user.UID, user.GID)
	return advice.Add(err, "as root, give yourself a range of ids, and end all your containers: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER")
}

// user is the part that changes to the user of the command. Groups go first: a user that is not root may not change them
// any more.
func user(user specs.User) namespaces.Part {
	alone := usernamespace.Alone() // then the kernel denies setgroups, and there is one group
	return namespaces.Part{Last: func(list *birth.List) error {
		groups := append([]uint32{}, user.AdditionalGids...)
		first := append(groups, 0) // so that there is something to point to
		if !alone {
			list.Add(fmt.Sprintf("set groups %v", groups), unix.SYS_SETGROUPS, len(groups), unsafe.Pointer(&first[0]))
		}
		list.Add(fmt.Sprintf("set group %d", user.GID), unix.SYS_SETGID, int(user.GID))
		list.Add(fmt.Sprintf("set user %d", user.UID), unix.SYS_SETUID, int(user.UID))
		if user.Umask != nil {
			list.Add("set the umask", unix.SYS_UMASK, int(*user.Umask))
		}
		return nil
	}}
}
