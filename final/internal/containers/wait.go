//go:build linux

package containers

import (
	"errors"
	"fmt"
	"os"
	"time"

	"gocker/final/internal/tail"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
)

// WaitEnd waits until a container has ended and its gocker has cleaned up, or another one has started it again meanwhile.
func (store Store) WaitEnd(s State, timeout time.Duration) error {
	folder := store.Dirs.Container(s.ID)
	free := make(chan error, 1)
	go func() {
		lock, err := dirs.LockShared(folder)
		if err == nil {
			lock.Close()
		} else if errors.Is(err, os.ErrNotExist) { // removed
			err = nil
		}
		free <- err
	}()
	late, look := time.After(timeout), time.NewTicker(tail.PollTime)
	defer look.Stop()
	for {
		select {
		case err := <-free:
			return err
		case <-look.C: // a process that starts it again may have been faster to lock it
			if now, err := readState(folder); err == nil && s.Monitor != 0 && now.Monitor != 0 && now.Monitor != s.Monitor {
				return nil
			}
		case <-late:
			return advice.Add(fmt.Errorf("container %s has not ended after %s", s.ID, timeout), "kill it: gocker kill %s", s.ID)
		}
	}
}

// IsHeld tells whether a container's gocker is alive.
func (store Store) IsHeld(id string) bool {
	lock, err := dirs.TryLock(store.Dirs.Container(id))
	if err == nil {
		lock.Close()
	}
	return errors.Is(err, dirs.ErrLocked)
}
