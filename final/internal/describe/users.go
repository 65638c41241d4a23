//go:build linux

package describe

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/usernamespace"
)

// Users are the flags of "run" about the users of a container: the host's, or its own.
type Users struct {
	Mode           string   // "", "host", "private", "auto[:size=N,uidmapping=C:H:N,gidmapping=C:H:N]", "keep-id[:uid=N,gid=N]" or "nomap"
	UIDMap, GIDMap []string // CONTAINER:HOST:SIZE
	SubUID, SubGID string   // the name in /etc/subuid whose ranges it gets
}

// idOwner is the name in /etc/subuid whose ranges are for containers with --userns auto, as podman has it.
const idOwner = "containers"

// usualIDs are how many ids a container gets with --userns auto: as many as most images expect.
const usualIDs = 65536

// Own tells whether the container has users of its own.
func (u Users) Own() bool {
	return u.Mode != "" && u.Mode != "host" || len(u.UIDMap)+len(u.GIDMap) > 0 || u.SubUID != "" || u.SubGID != ""
}

// Auto tells whether its ids are to be those that no other container has.
func (u Users) Auto() bool {
	name, _, _ := strings.Cut(u.Mode, ":")
	return name == "auto"
}

// Check looks at what the flags say, before anything is made.
func (u Users) Check(i Isolation) error {
	name, _, _ := strings.Cut(u.Mode, ":")
	switch {
	case !u.Own():
		return nil
	case usernamespace.Inside() && (name != "keep-id" && name != "nomap" || len(u.UIDMap)+len(u.GIDMap) > 0 || u.SubUID != "" || u.SubGID != ""):
		return advice.Add(fmt.Errorf("--userns %s: %w without root", cmp.Or(u.Mode, "with --uidmap"), ErrOption), "all your containers are in your own user namespace: there are host, keep-id and nomap")
	case !usernamespace.Inside() && (name == "keep-id" || name == "nomap"):
		return advice.Add(fmt.Errorf("--userns %s: %w", u.Mode, ErrOption), "it is for users who are not root; there are host and auto, and --uidmap and --gidmap")
	case u.Mode != "" && u.Mode != "private" && u.Mode != "host" && !u.Auto() && !usernamespace.Inside():
		return advice.Add(fmt.Errorf("--userns %q: %w", u.Mode, ErrOption), "there are host and auto")
	case u.Mode == "host" || u.Auto() && (len(u.UIDMap)+len(u.GIDMap) > 0 || u.SubUID != "" || u.SubGID != ""):
		return fmt.Errorf("--userns %s with --uidmap, --gidmap, --subuidname or --subgidname: %w", u.Mode, ErrOption)
	case (u.UIDMap != nil || u.GIDMap != nil) && (u.SubUID != "" || u.SubGID != ""):
		return fmt.Errorf("--uidmap and --gidmap with --subuidname or --subgidname: %w", ErrOption)
	case u.Mode == "private" && len(u.UIDMap)+len(u.GIDMap) == 0 && u.SubUID == "" && u.SubGID == "":
		return advice.Add(fmt.Errorf("--userns private: %w without a map", ErrOption), "add --uidmap 0:100000:65536; or say --userns auto")
	case i.Cgroupns == "host":
		return advice.Add(fmt.Errorf("--cgroupns host with a user namespace of its own: %w", ErrOption), "leave out one of them, or say --userns host")
	case i.PID != "" && i.PID != "private":
		return advice.Add(fmt.Errorf("--pid %s with a user namespace of its own: %w", i.PID, ErrOption), "leave out one of them, or say --userns host")
	}
	_, _, err := u.Maps(nil)
	return err
}

// Maps are the maps of its user namespace. used are ids of the host that other containers have: with auto it gets none of them.
func (u Users) Maps(used []specs.LinuxIDMapping) (users, groups []specs.LinuxIDMapping, err error) {
	if u.Auto() {
		return u.auto(used)
	}
	if usernamespace.Inside() {
		return u.ofUser()
	}
	if len(u.UIDMap)+len(u.GIDMap) == 0 {
		if users, err = subordinate("/etc/subuid", cmp.Or(u.SubUID, u.SubGID)); err == nil {
			groups, err = subordinate("/etc/subgid", cmp.Or(u.SubGID, u.SubUID))
		}
		return users, groups, err
	}
	for _, m := range []struct {
		flag  string
		texts []string
		to    *[]specs.LinuxIDMapping
	}{{"--uidmap", u.UIDMap, &users}, {"--gidmap", u.GIDMap, &groups}} {
		for _, text := range m.texts {
			one, err := parseMap(text)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", m.flag, err)
			}
			*m.to = append(*m.to, one)
		}
	}
	if users == nil {
		users = groups
	}
	if groups == nil {
		groups = users
	}
	return users, groups, nil
}

// parseMap reads CONTAINER:HOST[:SIZE].
func parseMap(text string) (m specs.LinuxIDMapping, err error) {
	parts := strings.Split(text, ":")
	if len(parts) == 2 {
		parts = append(parts, "1")
	}
	if len(parts) == 3 {
		for i, to := range []*uint32{&m.ContainerID, &m.HostID, &m.Size} {
			n, parseErr := strconv.ParseUint(parts[i], 10, 32)
			*to, err = uint32(n), errors.Join(err, parseErr)
		}
	}
	const most = 1<<32 - 1
	if len(parts) != 3 || err != nil || m.Size == 0 || uint64(m.ContainerID)+uint64(m.Size) > most || uint64(m.HostID)+uint64(m.Size) > most {
		return m, advice.Add(fmt.Errorf("%q: %w", text, ErrOption), "write CONTAINER:HOST:SIZE, for example 0:100000:65536")
	}
	return m, nil
}

// subordinate gives a container the ranges of a name: its ids from 0 on.
func subordinate(file, name string) (maps []specs.LinuxIDMapping, err error) {
	ranges, err := usernamespace.Ranges(file, name, name)
	if err != nil {
		return nil, err
	}
	if len(ranges) == 0 {
		return nil, noRange(file, name)
	}
	var inside uint32
	for _, r := range ranges {
		maps = append(maps, specs.LinuxIDMapping{ContainerID: inside, HostID: uint32(r.First), Size: uint32(r.Count)})
		inside += uint32(r.Count)
	}
	return maps, nil
}

func noRange(file, name string) error {
	return advice.Add(fmt.Errorf("%s has no range of ids for %q", file, name), "give it one: echo %s:2147483648:2147418112 >>%s", name, file)
}

// auto gives a container ids that nobody else has, and what the options of the mode say.
func (u Users) auto(used []specs.LinuxIDMapping) (users, groups []specs.LinuxIDMapping, err error) {
	size := uint64(usualIDs)
	var moreUsers, moreGroups []specs.LinuxIDMapping
	_, options, _ := strings.Cut(u.Mode, ":")
	for option := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(option, "=")
		to := map[string]*[]specs.LinuxIDMapping{"uidmapping": &moreUsers, "gidmapping": &moreGroups}[key]
		switch {
		case option == "":
		case key == "size":
			if size, err = strconv.ParseUint(value, 10, 31); err != nil || size == 0 {
				return nil, nil, fmt.Errorf("--userns %q: size %q: %w", u.Mode, value, ErrOption)
			}
		case to != nil:
			m, err := parseMap(value)
			if err != nil {
				return nil, nil, fmt.Errorf("--userns %q: %w", u.Mode, err)
			}
			*to = append(*to, m)
		default:
			return nil, nil, advice.Add(fmt.Errorf("--userns %q: option %q: %w", u.Mode, key, ErrOption), "there are size, uidmapping and gidmapping")
		}
	}
	first, err := freeIDs(used, size)
	if err != nil {
		return nil, nil, err
	}
	all := []specs.LinuxIDMapping{{ContainerID: 0, HostID: first, Size: uint32(size)}}
	return replaced(all, moreUsers), replaced(all, moreGroups), nil
}

// freeIDs finds so many ids of the host in a row that are both a user's and a group's range for containers, and not used.
func freeIDs(used []specs.LinuxIDMapping, size uint64) (first uint32, err error) {
	users, err := subordinate("/etc/subuid", idOwner)
	if err != nil {
		return 0, err
	}
	groups, err := subordinate("/etc/subgid", idOwner)
	if err != nil {
		return 0, err
	}
	used = slices.Clone(used)
	slices.SortFunc(used, func(a, b specs.LinuxIDMapping) int { return cmp.Compare(a.HostID, b.HostID) })
	for _, u := range users {
		for _, g := range groups {
			from := uint64(max(u.HostID, g.HostID))
			to := min(uint64(u.HostID)+uint64(u.Size), uint64(g.HostID)+uint64(g.Size))
			for _, other := range used {
				if end := uint64(other.HostID) + uint64(other.Size); end > from && uint64(other.HostID) < from+size {
					from = end
				}
			}
			if from+size <= to {
				return uint32(from), nil
			}
		}
	}
	return 0, advice.Add(fmt.Errorf("%d ids in a row are not free for a container", size),
		"remove containers with --userns auto, ask for fewer ids (auto:size=1024), or give %q more of them in /etc/subuid and /etc/subgid", idOwner)
}

// replaced are maps with others in the place of the same ids of the container.
func replaced(all, by []specs.LinuxIDMapping) []specs.LinuxIDMapping {
	for _, m := range by {
		var rest []specs.LinuxIDMapping
		for _, old := range all {
			begin, end := max(old.ContainerID, m.ContainerID), min(old.ContainerID+old.Size, m.ContainerID+m.Size)
			if begin >= end {
				rest = append(rest, old)
				continue
			}
			if n := begin - old.ContainerID; n > 0 {
				rest = append(rest, specs.LinuxIDMapping{ContainerID: old.ContainerID, HostID: old.HostID, Size: n})
			}
			if n := old.ContainerID + old.Size - end; n > 0 {
				rest = append(rest, specs.LinuxIDMapping{ContainerID: end, HostID: old.HostID + end - old.ContainerID, Size: n})
			}
		}
		all = append(rest, m)
	}
	slices.SortFunc(all, func(a, b specs.LinuxIDMapping) int { return cmp.Compare(a.ContainerID, b.ContainerID) })
	return all
}

// mapMounts has a container with users of its own see gocker's files for it, and volumes, with the numbers that they have on the disk.
func mapMounts(spec *specs.Spec, users Users, container string, d dirs.Dirs) error {
	for i, m := range spec.Mounts {
		wanted := slices.Contains(m.Options, "idmap")
		if wanted && !users.Own() {
			return advice.Add(fmt.Errorf("mount %q with idmap: %w: the container's users are the host's", m.Destination, ErrOption), "add --userns auto")
		}
		ours := filepath.Dir(m.Source) == container || strings.HasPrefix(m.Source, filepath.Join(d.Root, "volumes")+"/")
		if users.Own() && m.Type == "bind" && ours && !wanted && !usernamespace.Inside() {
			spec.Mounts[i].Options = append(slices.Clone(m.Options), "idmap")
		}
	}
	return nil
}
