//go:build linux

package life

import (
	"errors"
	"fmt"
	"slices"

	"gocker/final/internal/containers"
	"gocker/final/internal/filter"
	"gocker/final/internal/networks"
)

// Prune removes the containers that do not run. Filters are those of filter.Prune. A container that cannot be
// read is kept.
func (life Life) Prune(filters []string, removed func(id string)) (bytes int64, err error) {
	unwanted, err := filter.Prune(filters, true)
	if err != nil {
		return 0, err
	}
	all, err := life.Containers.List()
	for _, s := range all {
		if c := s.Condition(); c != "exited" && c != "created" || !unwanted(s.Created, s.Annotations) {
			continue
		}
		size := life.Containers.Bytes(s.ID)
		switch rmErr := life.Remove(s.ID, RmOptions{}); {
		case errors.Is(rmErr, containers.ErrNoContainer) || errors.Is(rmErr, containers.ErrRunning): // somebody was faster
		case rmErr != nil:
			err = errors.Join(err, rmErr)
		default:
			removed(s.Whole())
			bytes += size
		}
	}
	return bytes, err
}

// NetworkUsers are the containers that have each network, by the network's id, whether they run or not. It is nil if that cannot
// be known of all.
func (life Life) NetworkUsers() (map[string][]string, error) {
	states, err := life.Containers.List()
	if err != nil {
		return nil, err
	}
	on, err := life.Containers.Networks().All()
	if err != nil {
		return nil, err
	}
	all, err := life.Containers.Networks().List()
	used := map[string][]string{}
	for id, endpoints := range on {
		for _, e := range endpoints {
			used[e.NetworkID] = append(used[e.NetworkID], id)
		}
	}
	for _, s := range states {
		for _, want := range s.Options.Network.Wants {
			i := slices.IndexFunc(all, want.Is)
			if i >= 0 && !slices.Contains(used[all[i].ID], s.ID) {
				used[all[i].ID] = append(used[all[i].ID], s.ID)
			}
		}
	}
	return used, err
}

// PruneNetworks removes the networks that no container has, running or not, and takes out of the kernel what nobody uses of the
// default one. A network that cannot be read is kept.
func (life Life) PruneNetworks(filters []string, removed func(name string)) error {
	unwanted, err := filter.Prune(filters, true)
	if err != nil {
		return err
	}
	used, err := life.NetworkUsers()
	if used == nil {
		return fmt.Errorf("all networks are kept, containers may have them: %w", err)
	}
	store := life.Containers.Networks()
	all, listErr := store.List()
	err = errors.Join(err, listErr)
	for _, n := range all {
		if n.Builtin() || len(used[n.ID]) > 0 || !unwanted(n.Created, n.Labels) {
			continue
		}
		switch _, rmErr := store.Remove(n.Name); {
		case errors.Is(rmErr, networks.ErrNoNetwork) || errors.Is(rmErr, networks.ErrUsed): // somebody was faster
		case rmErr != nil:
			err = errors.Join(err, rmErr)
		default:
			removed(n.Name)
		}
	}
	return errors.Join(err, store.Rest())
}
