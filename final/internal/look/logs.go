//go:build linux

package look

import (
	"fmt"
	"io"
	"time"

	"gocker/final/internal/containers"
	"gocker/final/internal/logs"
	"gocker/final/internal/tail"
	"gocker/step01-pull/shared/advice"
)

// Logs writes what a container wrote, stdout and stderr apart; with Follow, until it ends. It leaves out damaged lines, and
// says so.
func (look Look) Logs(name string, opts logs.Options, stdout, stderr io.Writer, say func(format string, args ...any)) error {
	s, err := look.Containers.Find(name)
	if err != nil {
		return err
	}
	folder := look.Containers.Dirs.Container(s.ID)
	log := logs.NewReader(folder, opts, stdout, stderr, func(bytes int, err error) {
		say("Left out %d bytes of the log of %s, which are damaged: %v", bytes, name, err)
	})
	defer log.Close()
	for {
		// Ask before reading: a container that has ended writes nothing after that, so this read finds all.
		running := look.Containers.IsHeld(s.ID)
		found, err := log.Read()
		if err != nil {
			return err
		}
		if !found && !neverRan(s) {
			return advice.Add(fmt.Errorf("container %s has no log", name), "containers that were started with --log-driver none, or in the foreground with --rm, have none")
		}
		if !opts.Follow || !running && !neverRan(s) || !opts.Until.IsZero() && time.Now().After(opts.Until) {
			return nil
		}
		time.Sleep(tail.PollTime)
		if neverRan(s) { // its first start is still to come
			if s, err = look.Containers.Find(s.ID); err != nil {
				return nil
			}
		}
	}
}

// neverRan tells whether a container's first start is still to come.
func neverRan(s containers.State) bool { return s.Started.IsZero() }
