//go:build linux

package describe

import (
	"fmt"
	"strconv"
	"strings"

	"gocker/step01-pull/shared/advice"
)

// A RestartPolicy says whether a container's monitor starts it again when it has ended. Nobody does so after the machine
// was started again: there is no daemon.
type RestartPolicy struct {
	Name string // "no", also if empty, "on-failure", "always" or "unless-stopped"
	Max  int    // how often, with on-failure; 0 is for ever
}

// ParseRestart reads docker's "on-failure:3".
func ParseRestart(s string) (p RestartPolicy, err error) {
	name, most, limited := strings.Cut(s, ":")
	p.Name = name
	if limited {
		p.Max, err = strconv.Atoi(most)
	}
	switch {
	case err != nil || p.Max < 0 || limited && name != "on-failure":
	case name == "", name == "no", name == "on-failure", name == "always", name == "unless-stopped":
		return p, nil
	}
	return p, advice.Add(fmt.Errorf("--restart %q: %w", s, ErrOption), "there are no, on-failure[:times], always and unless-stopped")
}

func (p RestartPolicy) String() string {
	if p.Max > 0 {
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
