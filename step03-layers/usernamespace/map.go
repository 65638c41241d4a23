//go:build linux

package usernamespace

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
)

// A Map says who the users and groups of a user namespace are outside.
//
//	inside   outside   how many
//	0        1001      1           root is the user
//	1        100000    65536       the others are a range that /etc/subuid gives the user, and that no one else has
//
// The user's own id anybody may map. Ranges of other ids only root may; so newuidmap(1), which is setuid root, does it for
// those ranges that root has written into /etc/subuid for this user. A Map without ranges has one user and one group.
type Map struct {
	users, groups []Range
	why           string // there are none
}

// A Range is one of ids outside: a line of /etc/subuid, without the user's name. See subuid(5).
type Range struct{ First, Count int }

// UserMap is the map for the user of this process.
func UserMap() (m Map, err error) {
	uid := strconv.Itoa(os.Geteuid())
	name := uid
	if u, err := user.LookupId(uid); err == nil { // not every id has a name
		name = u.Username
	}
	if m.users, err = Ranges("/etc/subuid", name, uid); err != nil {
		return Map{}, err
	}
	if m.groups, err = Ranges("/etc/subgid", name, uid); err != nil {
		return Map{}, err
	}
	for _, program := range []string{"newuidmap", "newgidmap"} {
		if _, err := exec.LookPath(program); err != nil {
			m.why = program + " is not installed"
		}
	}
	switch {
	case len(m.users) == 0:
		m.why = "/etc/subuid has no range for this user"
	case len(m.groups) == 0:
		m.why = "/etc/subgid has no range for this user"
	}
	if m.why != "" {
		m.users, m.groups = nil, nil
	}
	return m, nil
}

// Why says why the map has no ranges; "" is for one that has some.
func (m Map) Why() string { return m.why }

// String ends a sentence: "it is root in there, …".
func (m Map) String() string {
	if m.why != "" {
		return "and there is no other user, as " + m.why
	}
	count := 0
	for _, e := range m.users {
		count += e.Count
	}
	return fmt.Sprintf("and has %d more ids, from /etc/subuid", count)
}

// Ranges reads what /etc/subuid or /etc/subgid gives a user, by its name or its number.
func Ranges(file, name, uid string) (found []Range, err error) {
	raw, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(raw)) {
		fields := strings.Split(strings.TrimSpace(line), ":")
		if len(fields) != 3 || fields[0] != uid && fields[0] != name {
			continue
		}
		first, err := strconv.ParseUint(fields[1], 10, 32)
		count, err2 := strconv.ParseUint(fields[2], 10, 32)
		if err := errors.Join(err, err2); err != nil {
			return nil, fmt.Errorf("%s: the line %q: %w", file, strings.TrimSpace(line), err)
		}
		if count > 0 {
			found = append(found, Range{int(first), int(count)})
		}
	}
	return found, nil
}

// LastGroup is the highest group id of the user namespace that this program is in.
func LastGroup() (last int) {
	raw, _ := os.ReadFile("/proc/self/gid_map") // where it is not, there is one group
	for line := range strings.Lines(string(raw)) {
		var inside, outside, count int
		if n, _ := fmt.Sscan(line, &inside, &outside, &count); n == 3 {
			last = max(last, inside+count-1)
		}
	}
	return last
}

// write gives the map to the user namespace of a process. It can be written only once.
func (m Map) write(pid int) error {
	if m.why == "" {
		if err := newidmap("newuidmap", pid, os.Geteuid(), m.users); err != nil {
			return err
		}
		return newidmap("newgidmap", pid, os.Getegid(), m.groups)
	}
	// A file can be closed for a group whose members all others are not. So a user may map a group only when leaving it is
	// over: see setgroups in user_namespaces(7).
	for _, file := range []struct{ name, text string }{
		{"setgroups", "deny"},
		{"uid_map", fmt.Sprintf("0 %d 1", os.Geteuid())},
		{"gid_map", fmt.Sprintf("0 %d 1", os.Getegid())},
	} {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, file.name), []byte(file.text), 0); err != nil {
			return fmt.Errorf("write %q: %w", file.text, err)
		}
	}
	return nil
}

// newidmap calls newuidmap or newgidmap: root is own, and the ids from 1 on are the ranges.
func newidmap(program string, pid, own int, ranges []Range) error {
	args := []string{strconv.Itoa(pid), "0", strconv.Itoa(own), "1"}
	inside := 1
	for _, e := range ranges {
		args = append(args, strconv.Itoa(inside), strconv.Itoa(e.First), strconv.Itoa(e.Count))
		inside += e.Count
	}
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		err = fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(string(out)))
		return advice.Add(err, "is %s setuid root? Does the user's home or this machine forbid setuid programs (nosuid, no_new_privs)?", program)
	}
	return nil
}

// explain says which of the machine's settings keeps a user from making user namespaces.
func explain(err error) error {
	for _, setting := range []struct{ file, forbids, allow string }{
		{"/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"},
		{"/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"},
		{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or a profile of AppArmor for this program"},
	} {
		if raw, readErr := os.ReadFile(setting.file); readErr == nil && strings.TrimSpace(string(raw)) == setting.forbids {
			return advice.Add(fmt.Errorf("%w: %s is %s", err, setting.file, setting.forbids), "as root: %s", setting.allow)
		}
	}
	if errors.Is(err, unix.ENOSPC) {
		return advice.Add(err, "there are too many user namespaces, or one in another in another: see /proc/sys/user/max_user_namespaces")
	}
	return err
}
