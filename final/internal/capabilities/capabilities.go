//go:build linux

// Package capabilities has the specification's names of capabilities(7).
package capabilities

import (
	"strings"

	"github.com/moby/sys/capability"
)

// Name is a capability's name in the specification, "CAP_CHOWN".
func Name(c capability.Cap) string { return "CAP_" + strings.ToUpper(c.String()) }

// All are the names of all capabilities that this kernel has.
func All() (names []string, err error) {
	known, err := capability.ListSupported()
	for _, c := range known {
		names = append(names, Name(c))
	}
	return names, err
}
