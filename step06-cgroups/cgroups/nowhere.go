//go:build linux

package cgroups

import (
	"errors"

	"gocker/step01-pull/shared/advice"
)

// Nowhere is the cgroup of a container that has none of its own, as it is a user's to whom none was delegated: the container stays in
// that of the process that makes it. It has no limits, and nothing is counted.
var Nowhere Cgroup = nowhere{}

var errNowhere = errors.New("there is no cgroup for this container")

type nowhere struct{}

func (nowhere) Make() error { return nil }

func (nowhere) Enable(...string) error {
	return advice.Add(errNowhere, "%s", undelegated)
}

func (nowhere) Folders() []string         { return nil }
func (nowhere) Path(file string) string   { return "no cgroup/" + file } // which is not there
func (nowhere) Word(v2, v1 string) string { return v2 }
func (nowhere) String() string            { return "" }
