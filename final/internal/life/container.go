//go:build linux

package life

import (
	"gocker/final/internal/attach"
	"gocker/final/internal/containers"
	"gocker/final/internal/logs"
)

// A container is one that this process runs.
type container struct {
	*containers.Held
	life   Life
	log    *logs.Log      // nil if it has none
	server *attach.Server // nil if nobody can be attached
	kept   bool           // a process stays, and starts it again
}
