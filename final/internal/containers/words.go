//go:build linux

package containers

import (
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step01-pull/shared/dirs"
)

// Conditions are those of a container, in docker's words. The OCI runtime specification has fewer.
var Conditions = []string{"created", "running", "paused", "restarting", "removing", "exited", "dead"}

// Condition is what docker calls a container's state.
func (s State) Condition() string {
	switch {
	case s.Status == specs.StateStopped:
		return "exited"
	case s.Status == specs.StateCreating:
		return "created"
	case s.Paused:
		return "paused"
	}
	return string(s.Status)
}

// ImageName is the name that the container's image goes by: the one that it was made of, or the image's id, if that name
// is another image's by now, or nobody's.
func (s State) ImageName(names map[string]map[string]string) string {
	ref := s.Options.Image
	if names[ref.Name][ref.Tag] == dirs.Short(s.ImageID) || strings.HasPrefix(ref.Tag, "sha256:") {
		return s.Image
	}
	return dirs.Short(s.ImageID)
}
