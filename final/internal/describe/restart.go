//go:build linux

package describe

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gocker/step01-pull/shared/advice"
)

// A RestartPolicy says whether a container's monitor starts it again when it has ended, and whether the init system does so after
// a start of the machine: see life.Boot.
type RestartPolicy struct {
	Name string // "no", also if empty, "on-failure", "always" or "unless-stopped"
	Max  int    // how often, with on-failure; 0 is for ever
}

// ParseRestart reads docker's "on-failure:3".
func ParseRestart(s string) (p RestartPolicy, err error) {
	name, most, limited := strings.Cut(s, ":")
	p.Name = name
	if limited {
		if p.Max, err = strconv.Atoi(most); err != nil {
			return p, unknownRestart(s)
		}
	}
	return p, nil
}

// Check finds what is wrong with a policy.
func (p RestartPolicy) Check() error {
	if !slices.Contains([]string{"", "no", "on-failure", "always", "unless-stopped"}, p.Name) || p.Max < 0 || p.Max > 0 && p.Name != "on-failure" {
		return unknownRestart(p.String())
	}
	return nil
}

func unknownRestart(policy string) error {
	return advice.Add(fmt.Errorf("--restart %q: %w", policy, ErrOption), "there are no, on-failure[:times], always and unless-stopped")
}

func (p RestartPolicy) String() string {
	if p.Max != 0 {
		return fmt.Sprintf("%s:%d", p.Name, p.Max)
	}
	return p.Name
}

// Wanted tells whether a container may be started again.
func (p RestartPolicy) Wanted() bool { return p.Name != "" && p.Name != "no" }

// Again tells whether a container that has ended with status, and was started again so many times, is to be so once more.
func (p RestartPolicy) Again(status, restarts int) bool {
	if p.Name == "on-failure" {
		return status != 0 && (p.Max == 0 || restarts < p.Max)
	}
	return p.Wanted()
}
