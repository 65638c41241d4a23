//go:build linux

package networks

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"gocker/final/internal/rootless"
	"gocker/step01-pull/shared/dirs"
	"gocker/step05-namespaces/network"
)

// A Stray is something of networks that should not be there.
type Stray struct{ Path, What, Advice string }

// Strays looks for what is left of networks and containers that are gone, and for files that are damaged. runs tells whether
// a process holds a container.
func (s Store) Strays(runs func(container string) bool) (strays []Stray, err error) {
	if rootless.CheckNetworks() != nil { // then there are none
		return nil, nil
	}
	err = rootless.InNetwork(func() (err error) {
		strays, err = s.strays(runs)
		return err
	})
	return strays, err
}

func (s Store) strays(runs func(container string) bool) (strays []Stray, err error) {
	add := func(path, what, advice string, args ...any) {
		strays = append(strays, Stray{path, what, fmt.Sprintf(advice, args...)})
	}
	if err := s.strayFiles(runs, add); err != nil {
		return nil, err
	}
	cables, err := s.strayCables()
	for _, device := range cables {
		add(device, "a cable that no container has", "ip link del %s", device)
	}
	return strays, err
}

// strayFiles looks at files, and at rules and bridges that belong to them.
func (s Store) strayFiles(runs func(container string) bool, add func(path, what, advice string, args ...any)) error {
	lock, err := s.lock() // nobody is halfway
	if err != nil {
		return err
	}
	defer lock.Close()
	folders, err := dirs.Glob(s.folder(), "*")
	if err != nil {
		return err
	}
	for _, folder := range folders {
		name := filepath.Base(folder)
		if _, err := s.read(name); errors.Is(err, dirs.ErrDamaged) {
			add(s.file(name), "it is damaged", "remove the network, and make it again: gocker network rm %s", name)
		}
	}
	all, _ := s.List() // the others
	of, err := s.All()
	if err != nil {
		return err
	}
	for container, endpoints := range of {
		for _, e := range endpoints {
			switch {
			case !slices.ContainsFunc(all, func(n Network) bool { return n.ID == e.NetworkID }):
				add(s.endpointFile(e), "container "+container+" is on a network that is gone", "end it: gocker stop %s", container)
			case !runs(container):
				add(s.endpointFile(e), "the place of a container that does not run", "the next command that looks at all containers removes it, such as gocker ps")
			}
		}
	}
	bridges, err := s.strayBridges(all)
	for _, device := range bridges {
		add(device, "the rules of a network that is gone, and its bridge", "gocker network prune")
	}
	return err
}

// strayBridges are the devices that have rules, and whose networks are none of all.
func (s Store) strayBridges(all []Network) ([]string, error) {
	bridges, err := s.table().Bridges()
	if err != nil && len(all) == 0 {
		return nil, nil // a kernel without rules has none of ours
	}
	return slices.DeleteFunc(bridges, func(device string) bool {
		return slices.ContainsFunc(all, func(n Network) bool { return n.Device == device })
	}), err
}

// sweep removes the rules and bridges of networks that are gone: their folders were removed by hand, or damaged. The caller
// holds the lock.
func (s Store) sweep() error {
	all, err := s.List()
	if err != nil {
		return err
	}
	bridges, err := s.strayBridges(all)
	if err != nil || len(bridges) == 0 {
		return err
	}
	for _, device := range bridges {
		err = errors.Join(err, network.Switch{Name: device}.Remove())
	}
	return errors.Join(err, s.writeRules())
}

// strayCables finds those on our bridges that no container has. The kernel takes a cable away some time after the end of its
// container.
func (s Store) strayCables() (devices []string, err error) {
	const patience, pause = 2 * time.Second, 50 * time.Millisecond
	for begun := time.Now(); ; time.Sleep(pause) {
		links, err := whole(netlink.LinkList) // before the files: a file is there before its cable
		if err != nil {
			return nil, err
		}
		all, _ := s.List() // with what cannot be read nobody knows
		of, err := s.All()
		if err != nil {
			return nil, err
		}
		used := map[string]bool{}
		for _, endpoints := range of {
			for _, e := range endpoints {
				used[e.Host] = true
			}
		}
		bridges := map[int]bool{}
		for _, link := range links {
			device := link.Attrs().Name
			bridges[link.Attrs().Index] = slices.ContainsFunc(all, func(n Network) bool { return n.Device == device })
		}
		devices = nil
		for _, link := range links {
			if device := link.Attrs().Name; link.Type() == "veth" && bridges[link.Attrs().MasterIndex] && !used[device] {
				devices = append(devices, device)
			}
		}
		if len(devices) == 0 || time.Since(begun) > patience {
			return devices, nil
		}
	}
}
