//go:build linux

package cgroups

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"gocker/step01-pull/shared/dirs"
	"gocker/step04-overlay/overlay"
)

// record is the file in a container's folder that says where its cgroups are, for other commands, and for the case that
// gocker dies: "memory:/sys/fs/cgroup/memory/…" and so on, or ":/sys/fs/cgroup/…" with v2.
const record = "cgroups"

// Record writes down where the cgroup of a container is.
func Record(f *overlay.FS, cg Cgroup) error {
	return os.WriteFile(filepath.Join(f.Dir, record), []byte(cg.String()), 0o600)
}

// OpenRecorded is the cgroup that Record wrote down in a container's folder.
func OpenRecorded(folder string) (Cgroup, error) {
	raw, err := os.ReadFile(filepath.Join(folder, record))
	if err != nil {
		return nil, fmt.Errorf("read where the cgroups are: %w", err)
	}
	if len(raw) == 0 {
		return Nowhere, nil
	}
	cg := v1{}
	for line := range strings.Lines(string(raw)) {
		controller, path, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		if controller == "" {
			return v2{path}, nil
		}
		cg[controller] = path
	}
	return cg, nil
}

// RemoveRecorded removes the cgroup that Record wrote down, if there is one. The record goes last: as long as it is
// there, something may be left.
func RemoveRecorded(f *overlay.FS) error {
	cg, err := OpenRecorded(f.Dir)
	if err == nil {
		err = Remove(cg)
	}
	if err == nil {
		err = os.Remove(filepath.Join(f.Dir, record))
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// RemoveDead removes what dead containers have left: processes, cgroups, mounts and folders. The folder of a cgroup that
// could not be removed stays: nothing else says where that is.
func RemoveDead(d dirs.Dirs) error {
	return overlay.EachDead(d, func(f *overlay.FS) error {
		if err := RemoveRecorded(f); err != nil {
			return errors.Join(err, f.Close())
		}
		return f.Remove()
	}, record)
}
