//go:build linux

package describe

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step01-pull/shared/advice"
	"gocker/step03-layers/usernamespace"
)

// All containers of a user who is not root are in the user's own user namespace, in which root is the user. With keep-id or nomap a
// container has one more in there. "Outside" is the user's own, in which the user is 0, and the range of /etc/subuid begins at 1:
//
//	keep-id, user 1001:  inside 0 to 1000     outside 1 to 1001       nomap:  inside 0 on   outside 1 on
//	                     inside 1001          outside 0, the user
//	                     inside 1002 on       outside 1002 on

// keptID is what the user is inside with keep-id; ok is false for other modes.
func (u Users) keptID() (uid, gid uint32, ok bool, err error) {
	name, options, _ := strings.Cut(u.Mode, ":")
	if name != "keep-id" {
		return 0, 0, false, nil
	}
	user, _ := usernamespace.Here("uid_map")
	group, _ := usernamespace.Here("gid_map")
	uid, gid = uint32(user), uint32(group)
	for option := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(option, "=")
		to := map[string]*uint32{"uid": &uid, "gid": &gid}[key]
		if option == "" {
			continue
		}
		n, err := strconv.ParseUint(value, 10, 31)
		if to == nil || err != nil {
			return 0, 0, false, advice.Add(fmt.Errorf("--userns %q: option %q: %w", u.Mode, option, ErrOption), "write keep-id:uid=N,gid=N")
		}
		*to = uint32(n)
	}
	return uid, gid, true, nil
}

// ofUser are the maps of a container of a user who is not root.
func (u Users) ofUser() (users, groups []specs.LinuxIDMapping, err error) {
	uid, gid, keeps, err := u.keptID()
	if err != nil {
		return nil, nil, err
	}
	if u.Mode != "nomap" && !keeps {
		return nil, nil, fmt.Errorf("--userns %q: %w", u.Mode, ErrOption)
	}
	_, lastUser := usernamespace.Here("uid_map")
	_, lastGroup := usernamespace.Here("gid_map")
	if lastUser == 0 || lastGroup == 0 {
		return nil, nil, advice.Add(errors.New("--userns "+u.Mode+": the container's root would be nobody: you have no ids but your own"),
			"as root, give the user a range of ids: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER")
	}
	if !keeps {
		return others(uint32(lastUser)), others(uint32(lastGroup)), nil
	}
	return kept(uid, uint32(lastUser)), kept(gid, uint32(lastGroup)), nil
}

// others maps the ids from 0 on to a user's range, and none to the user.
func others(last uint32) []specs.LinuxIDMapping {
	return []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1, Size: last}}
}

// kept maps an id to the user, and all others to the user's range. last is the range's last id.
func kept(id, last uint32) (maps []specs.LinuxIDMapping) {
	if id > 0 {
		maps = append(maps, specs.LinuxIDMapping{ContainerID: 0, HostID: 1, Size: min(id, last)})
	}
	maps = append(maps, specs.LinuxIDMapping{ContainerID: id, HostID: 0, Size: 1})
	if id < last {
		maps = append(maps, specs.LinuxIDMapping{ContainerID: id + 1, HostID: id + 1, Size: last - id})
	}
	return maps
}

// user is who a container's process is if nobody says otherwise: with keep-id the user, as podman has it; "" is what the image says.
func (u Users) user() (string, error) {
	uid, gid, keeps, err := u.keptID()
	if err != nil || !keeps {
		return "", err
	}
	return fmt.Sprint(uid, ":", gid), nil
}
