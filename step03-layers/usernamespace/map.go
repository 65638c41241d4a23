//go:build linux

package usernamespace

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
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
	_, last = Here("gid_map")
	return last
}

// Here reads the map of the user namespace that this program is in, uid_map or gid_map: who root is outside, and the highest id.
func Here(file string) (root, last int) {
	for _, m := range mapOf(file) {
		last = max(last, m.inside+m.count-1)
		if m.inside == 0 {
			root = m.outside
		}
	}
	return root, last
}

// ByHand is unshare(1) with what makes a user namespace like the one that this program is in, but for further ranges than the first; ""
// if it is in the machine's.
func ByHand() string {
	if !Inside() {
		return ""
	}
	command := "unshare --user --map-root-user --mount"
	for _, kind := range []struct{ file, option string }{{"uid_map", "--map-users"}, {"gid_map", "--map-groups"}} {
		for _, m := range mapOf(kind.file) {
			if m.inside == 1 {
				command += fmt.Sprintf(" %s=%d,%d,%d", kind.option, m.outside, m.inside, m.count)
			}
		}
	}
	return command
}

// mapOf reads a map of the user namespace that this program is in: see user_namespaces(7).
func mapOf(file string) (lines []struct{ inside, outside, count int }) {
	raw, _ := os.ReadFile("/proc/self/" + file) // where it is not, there is one id
	for line := range strings.Lines(string(raw)) {
		var m struct{ inside, outside, count int }
		if n, _ := fmt.Sscan(line, &m.inside, &m.outside, &m.count); n == 3 {
			lines = append(lines, m)
		}
	}
	return lines
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
		return advice.Add(err, "%s", mend(program))
	}
	return nil
}

// mend says how newuidmap or newgidmap may become root's program again. It is that by its setuid bit, or by capabilities of its file.
func mend(program string) string {
	path, err := exec.LookPath(program)
	if err != nil {
		return err.Error()
	}
	var file unix.Stat_t
	var fs unix.Statfs_t
	unix.Stat(path, &file) // where these fail, all is 0
	unix.Statfs(path, &fs)
	capabilities, _ := unix.Getxattr(path, "security.capability", nil)
	noNewPrivs, _ := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	switch {
	case noNewPrivs == 1:
		return "this process has no_new_privs, as in a container, or in a service with NoNewPrivileges=: then no program is root's; start it outside"
	case fs.Flags&unix.ST_NOSUID != 0:
		return path + " lies on a file system that is mounted with nosuid: then no program is root's; mount it without"
	case file.Mode&unix.S_ISUID == 0 && capabilities <= 0:
		return "as root: chmod u+s " + path
	}
	return "do two ranges of this user in /etc/subuid or /etc/subgid overlap, or have they the user's own id?"
}

// Forbidden finds the setting of the machine's that keeps users from making user namespaces, below root, "/": what it is, and how root
// mends it. Where there is none, both are "".
func Forbidden(root string) (found, mend string) {
	program, _ := os.Executable()
	for _, setting := range []struct{ file, forbids, mend string }{
		{"/proc/sys/user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=10000"},
		{"/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"},
		{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0; or for this program alone: " + profile(program)},
		{"/sys/fs/selinux/enforce", "1", "ausearch -m avc -ts recent | audit2allow says which rule of SELinux it needs"},
	} {
		if raw, err := os.ReadFile(filepath.Join(root, setting.file)); err == nil && strings.TrimSpace(string(raw)) == setting.forbids {
			return setting.file + " is " + setting.forbids, setting.mend
		}
	}
	return "", ""
}

// profile is a command that gives a program a profile of AppArmor which allows user namespaces, and all else: see apparmor.d(5).
func profile(program string) string {
	file := "/etc/apparmor.d/" + filepath.Base(program)
	return fmt.Sprintf(`printf 'abi <abi/4.0>,\nprofile %s "%s" flags=(unconfined) {\n  userns,\n}\n' >%s && apparmor_parser -r %[3]s`, filepath.Base(program), program, file)
}

// explain says which of the machine's settings keeps a user from making user namespaces.
func explain(err error) error {
	if found, mend := Forbidden("/"); found != "" {
		return advice.Add(fmt.Errorf("%w: %s", err, found), "as root: %s", mend)
	}
	if errors.Is(err, unix.ENOSPC) {
		return advice.Add(err, "there are too many user namespaces, or one in another in another: see /proc/sys/user/max_user_namespaces")
	}
	return err
}
