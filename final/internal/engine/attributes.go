//go:build linux

package engine

import (
	"fmt"
	"math"
	"strings"

	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step01-pull/advice"
)

// Attributes are flags of "run" that the kernel keeps for a process, or for a namespace.
type Attributes struct {
	Ulimits    []string // nofile=SOFT[:HARD]
	Sysctls    []string // KEY=value
	GroupAdd   []string // more groups, by name or number
	Domainname string
}

// setAttributes puts them into the spec; groups are those of lookUser.
func setAttributes(spec *specs.Spec, opts Attributes) error {
	for _, limit := range opts.Ulimits {
		l, err := units.ParseUlimit(limit)
		if err != nil {
			return advice.Add(fmt.Errorf("--ulimit %q: %w", limit, err), "write NAME=SOFT[:HARD], for example nofile=1024; -1 is no limit")
		}
		unlimited := func(n int64) uint64 {
			if n == -1 {
				return math.MaxUint64
			}
			return uint64(n)
		}
		spec.Process.Rlimits = append(spec.Process.Rlimits, specs.POSIXRlimit{
			Type: "RLIMIT_" + strings.ToUpper(l.Name), Soft: unlimited(l.Soft), Hard: unlimited(l.Hard),
		})
	}
	for _, sysctl := range opts.Sysctls {
		key, value, ok := strings.Cut(sysctl, "=")
		if !ok || key == "" {
			return advice.Add(fmt.Errorf("--sysctl %q: %w", sysctl, ErrOption), "write NAME=VALUE, for example net.ipv4.ip_forward=1")
		}
		if spec.Linux.Sysctl == nil {
			spec.Linux.Sysctl = map[string]string{}
		}
		spec.Linux.Sysctl[key] = value
	}
	spec.Domainname = opts.Domainname
	return nil
}
