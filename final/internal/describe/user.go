//go:build linux

package describe

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step04-overlay/overlay"
)

// ErrUser says that a user or group is not one that the image knows.
var ErrUser = errors.New("no such user or group in the image")

// A User is a process's, and the folder that is its home.
type User struct {
	specs.User
	Home string
}

// lookOrLeave is LookUser for a container that is being made. With a user that the image does not know it is made, as docker's
// is, and does not start: see FindUser.
func lookOrLeave(f *overlay.FS, wanted string, more []string) (User, error) {
	u, err := LookUser(f, wanted, more...)
	if errors.Is(err, ErrUser) {
		return User{User: specs.User{Username: cmp.Or(wanted, "0")}}, nil // never "": FindUser is for those that have a name
	}
	return u, err
}

// FindUser looks once more for a user that was not there when the container was made.
func FindUser(f *overlay.FS, process *specs.Process, more []string) error {
	u, err := LookUser(f, process.User.Username, more...)
	if err != nil {
		return err
	}
	u.Umask = process.User.Umask
	process.User = u.User
	if home := slices.Index(process.Env, "HOME="); home >= 0 {
		process.Env[home] += u.Home
	}
	return nil
}

// LookUser finds the user of "user[:group]", by the image's /etc/passwd and /etc/group; both are names or numbers, and a
// number need not be listed. Without a group it is the user's own and all that list it; more are added in any case. See
// passwd(5) and group(5).
func LookUser(f *overlay.FS, wanted string, more ...string) (User, error) {
	name, group, hasGroup := strings.Cut(wanted, ":")
	if name == "" {
		name = "0"
	}
	u := User{Home: "/"}
	passwd, err := lines(f, "etc/passwd", 7)
	if err != nil {
		return u, err
	}
	groups, err := lines(f, "etc/group", 4)
	if err != nil {
		return u, err
	}
	number, isNumber := parseID(name)
	i := slices.IndexFunc(passwd, func(line []string) bool {
		uid, ok := parseID(line[2])
		return ok && (isNumber && uid == number || !isNumber && line[0] == name) // a number is no name
	})
	switch {
	case i >= 0:
		line := passwd[i]
		gid, ok := parseID(line[3])
		if !ok {
			return u, fmt.Errorf("%w: the line of %q in /etc/passwd has the group %q", ErrUser, name, line[3])
		}
		u.UID, _ = parseID(line[2])
		u.GID, u.Home = gid, line[5]
		if !hasGroup {
			for _, g := range groups {
				if gid, ok := parseID(g[2]); ok && slices.Contains(strings.Split(g[3], ","), line[0]) {
					u.AdditionalGids = append(u.AdditionalGids, gid)
				}
			}
		}
	case isNumber:
		u.UID = number
	default:
		return u, advice.Add(fmt.Errorf("%w: user %q", ErrUser, name), "name a user in its /etc/passwd, or a number below 2147483648")
	}
	if hasGroup {
		if u.GID, err = lookGroup(groups, group); err != nil {
			return u, err
		}
	}
	for _, name := range more {
		gid, err := lookGroup(groups, name)
		if err != nil {
			return u, err
		}
		u.AdditionalGids = append(u.AdditionalGids, gid)
	}
	// Also the first group is one of the others: else a setgid program, whose first group is another, has left it, and files
	// that are closed to that group are open (CVE-2022-36109).
	if !slices.Contains(u.AdditionalGids, u.GID) {
		u.AdditionalGids = append([]uint32{u.GID}, u.AdditionalGids...)
	}
	return u, nil
}

// lookGroup finds a group by its name or number.
func lookGroup(groups [][]string, wanted string) (uint32, error) {
	gid, isNumber := parseID(wanted)
	if !isNumber {
		i := slices.IndexFunc(groups, func(line []string) bool { return line[0] == wanted })
		if i >= 0 {
			gid, isNumber = parseID(groups[i][2])
		}
	}
	if !isNumber {
		return 0, advice.Add(fmt.Errorf("%w: group %q", ErrUser, wanted), "name a group in its /etc/group, or a number below 2147483648")
	}
	return gid, nil
}

// parseID reads a uid or gid. A word that is no number is an error: never 0, which would be root.
func parseID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 31)
	return uint32(n), err == nil && s[0] != '+'
}

// maxLines is how large /etc/passwd and /etc/group may be, in bytes.
const maxLines = 4 << 20

// lines reads a file of lines with fields between colons, out of the container; lines with fewer fields are left out,
// a file that is not there has none.
func lines(f *overlay.FS, name string, fields int) ([][]string, error) {
	// The image's links may lead anywhere: followed as the container would, then opened where nothing leads out.
	resolved, err := f.Lower.Resolve(name)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(f.Mnt())
	if err != nil {
		return nil, err
	}
	defer root.Close()
	file, err := root.OpenFile(resolved, os.O_RDONLY|unix.O_NONBLOCK, 0) // a fifo would block forever
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read /%s of the image: %w", name, err)
	}
	defer file.Close()
	switch info, err := file.Stat(); {
	case err != nil || !info.Mode().IsRegular():
		return nil, fmt.Errorf("read /%s of the image: it is no regular file", name)
	case info.Size() > maxLines:
		return nil, fmt.Errorf("read /%s of the image: it has %d bytes, and at most %d are read", name, info.Size(), maxLines)
	}
	var out [][]string
	scanner := bufio.NewScanner(io.LimitReader(file, maxLines)) // a process in a running container may add to it
	scanner.Buffer(nil, maxLines)
	for scanner.Scan() {
		if line := strings.Split(scanner.Text(), ":"); len(line) >= fields {
			out = append(out, line)
		}
	}
	return out, scanner.Err()
}
