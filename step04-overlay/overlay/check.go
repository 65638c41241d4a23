//go:build linux

package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/dirs"
	"gocker/step04-overlay/check"
)

// Checks tells whether overlays can be mounted for containers in d, by mounting one.
func Checks(d dirs.Dirs) []check.Result {
	results := []check.Result{check.Privilege(), check.Space("space for containers", d.Run)}
	if !results[0].OK || !results[1].OK {
		return results
	}
	return append(results, checkOverlay(d))
}

func checkOverlay(d dirs.Dirs) check.Result {
	const name, breaks = "overlayfs", "the layers of an image cannot be laid over each other"
	partial, err := dirs.NewPartial(d.Containers())
	if err != nil {
		return check.Miss(name, err.Error(), breaks, "choose another folder with --run")
	}
	defer partial.Discard()
	err = tryMount(partial.Path)
	var fs unix.Statfs_t
	_ = unix.Statfs(partial.Path, &fs) // where it fails, its type is 0, which is none
	switch {
	case err == nil:
		return check.Good(name, "works in %s", d.Run)
	case errors.Is(err, unix.ENODEV):
		return check.Miss(name, "this kernel has no overlayfs, or its module is not loaded", breaks, "modprobe overlay")
	case fs.Type == unix.OVERLAYFS_SUPER_MAGIC:
		return check.Miss(name, d.Run+" is on an overlay itself, as all files of a container are", breaks,
			"choose a folder on another file system with --run, or mount one: mount -t tmpfs tmpfs "+d.Run)
	case errors.Is(err, unix.EINVAL):
		return check.Miss(name, fmt.Sprintf("the file system of %s cannot be an upperdir: it needs xattrs and d_type", d.Run), breaks,
			"choose a folder on another file system with --run, or mount one: mount -t tmpfs tmpfs "+d.Run)
	}
	return check.Miss(name, err.Error(), breaks, "mounting needs CAP_SYS_ADMIN, and no security module that forbids it")
}

// tryMount mounts an overlay in a mount namespace that is gone afterwards, and the mount with it.
func tryMount(dir string) error {
	f := &FS{Dir: dir, Lower: []string{filepath.Join(dir, "lower")}}
	for _, d := range append(f.Lower, f.Mnt(), f.Upperdir(), f.Workdir()) {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
	}
	return check.InOwnMounts(func() error {
		return unix.Mount("overlay", f.Mnt(), "overlay", 0, f.options(f.Lower))
	})
}
