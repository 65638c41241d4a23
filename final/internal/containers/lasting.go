//go:build linux

package containers

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"gocker/final/internal/disk"
	"gocker/final/internal/logs"
	"gocker/step01-pull/shared/dirs"
)

// Files that may grow, or should outlast the machine's next start, are not for the run folder, which is memory on many
// machines. It lies in {root}/containers/{id}: so far a container's log. Links lead there and back:
//
//	{run}/containers/{id}/log.json    to {root}/containers/{id}/log.json
//	{root}/containers/{id}/run        to {run}/containers/{id}: if that is gone, this is a stray

const runLink = "run"

// LogFolder makes the folder of a container's log.
func (c *Held) LogFolder() (string, error) {
	lasting, lastingErr := filepath.Abs(c.Dirs.Lasting(c.ID()))
	run, runErr := filepath.Abs(c.FS.Dir)
	if err := errors.Join(lastingErr, runErr); err != nil {
		return "", err
	}
	lock, err := dirs.Lock(lasting) // without its link it looks like a stray
	if err != nil {
		return "", fmt.Errorf("make a folder for the log: %w", err)
	}
	defer lock.Close()
	for _, link := range [][2]string{{run, filepath.Join(lasting, runLink)}, {logs.Name(lasting), logs.Name(run)}} {
		if err := os.Symlink(link[0], link[1]); err != nil && !errors.Is(err, os.ErrExist) {
			return "", err
		}
	}
	return logs.Folder(run), nil
}

// Bytes is what a container takes on disk: what it changed, and what lasts of it.
func (store Store) Bytes(id string) int64 {
	return store.ChangedBytes(id) + disk.Bytes(store.Dirs.Lasting(id))
}

// Strays lists what lasts of containers that are gone: their run folder was lost, or removed by hand. Those of other run folders are
// none of ours.
func (store Store) Strays() (folders []string, err error) {
	all, err := dirs.Glob(store.Dirs.AllLasting(), "*")
	for _, folder := range all {
		if stray, strayErr := store.isStray(folder); stray {
			folders = append(folders, folder)
		} else {
			err = errors.Join(err, strayErr)
		}
	}
	return folders, err
}

func (store Store) isStray(folder string) (bool, error) {
	container, err := os.Readlink(filepath.Join(folder, runLink))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil // somebody is about to make or to remove it
	}
	if err != nil {
		return false, err
	}
	if _, err := os.Lstat(container); !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	theirs, err := os.Stat(filepath.Dir(filepath.Dir(container)))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	ours, err := os.Stat(store.Dirs.Run)
	return err == nil && os.SameFile(theirs, ours), err
}

func (store Store) removeStrays() error {
	strays, err := store.Strays()
	for _, folder := range strays {
		err = errors.Join(err, removeLasting(folder))
	}
	return err
}

// removeLasting is dirs.RemoveAll: what a crash leaves of it has no link any more, but another name.
func removeLasting(folder string) error {
	_, err := os.Lstat(folder)
	if err == nil {
		err = dirs.RemoveAll(folder)
	}
	if errors.Is(err, os.ErrNotExist) { // most that are removed at their end have none
		return nil
	}
	return err
}
