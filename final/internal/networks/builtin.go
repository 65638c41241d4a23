//go:build linux

package networks

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
)

// ErrBuiltin says that a network is always there: nobody can make or remove it.
var ErrBuiltin = errors.New("the network is always there")

// docker has two networks that are none: containers "on" them have nothing but lo, or what the host has.
var modes = map[string]string{"none": "null", "host": "host"}

func mode(name string) Network {
	sum := sha256.Sum256([]byte("network " + name))
	return Network{Name: name, ID: hex.EncodeToString(sum[:])}
}

// Driver is docker's name of what a network is made with.
func (n Network) Driver() string { return cmp.Or(modes[n.Name], "bridge") }

// Builtin tells whether nobody has made the network.
func (n Network) Builtin() bool { return n.Name == Default || modes[n.Name] != "" }

// ListAll is List with none and host, which are nowhere on the disk, and with the default network, which is made if it is
// missing.
func (s Store) ListAll() ([]Network, error) {
	if err := s.MakeDefault(); err != nil {
		return nil, err
	}
	all, err := s.List()
	all = append(all, mode("none"), mode("host"))
	slices.SortFunc(all, func(a, b Network) int { return cmp.Compare(a.Name, b.Name) })
	return all, err
}

// FindAny is Find among the networks of ListAll, but it makes none.
func (s Store) FindAny(name string) (Network, error) {
	n, err := s.Find(name)
	if !errors.Is(err, ErrNoNetwork) {
		return n, err
	}
	if name == Default {
		return Network{Name: Default}, nil
	}
	for known := range modes {
		if m := mode(known); name == known || name != "" && strings.HasPrefix(m.ID, name) {
			return m, nil
		}
	}
	return n, err
}
