//go:build linux

// Package overlaycheck looks whether the layers of an image can be laid over each other on this machine.
package overlaycheck

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/usernamespace"
	"gocker/step04-overlay/check"
)

// Results tells whether overlays can be mounted for containers with their files in folder, by mounting one.
func Results(folder string) []check.Result {
	results := []check.Result{check.Privilege(), check.Space("space for containers", folder)}
	if !results[0].OK || !results[1].OK {
		return results
	}
	return append(results, checkOverlay(folder))
}

func checkOverlay(folder string) check.Result {
	const name, breaks = "overlayfs", "the layers of an image cannot be laid over each other"
	const elsewhere = "choose folders on another file system with --root and --run, or mount one: mount -t tmpfs tmpfs "
	partial, err := dirs.NewPartial(folder)
	if err != nil {
		return check.Miss(name, err.Error(), breaks, "choose other folders with --root and --run")
	}
	defer partial.Discard()
	err = tryMount(partial.Path)
	var fs unix.Statfs_t
	_ = unix.Statfs(partial.Path, &fs) // where it fails, its type is 0, which is none
	switch {
	case err == nil:
		return check.Good(name, "works in %s", folder)
	case errors.Is(err, unix.ENODEV):
		return check.Miss(name, "this kernel has no overlayfs, or its module is not loaded", breaks, "modprobe overlay")
	case fs.Type == unix.OVERLAYFS_SUPER_MAGIC:
		return check.Miss(name, folder+" is on an overlay itself, as all files of a container are", breaks,
			elsewhere+folder)
	case err == unix.EINVAL: // of the mount itself
		return check.Miss(name, fmt.Sprintf("%s is on %s, which cannot be an upperdir", folder, kind(fs.Type)), breaks, elsewhere+folder)
	}
	return check.Miss(name, err.Error(), breaks, cmp.Or(advice.Of(err), "mounting needs CAP_SYS_ADMIN, and no security module that forbids it"))
}

// kind names a kind of file systems that are homes and cannot be an upperdir, by its number: see statfs(2). Overlayfs wants one that asks
// nobody else whether a name is still there, and has xattrs and d_type. And servers know nothing of the ids that a user has.
func kind(magic int64) string {
	names := map[int64]string{
		unix.NFS_SUPER_MAGIC: "NFS", unix.ECRYPTFS_SUPER_MAGIC: "eCryptfs", unix.FUSE_SUPER_MAGIC: "FUSE", unix.V9FS_MAGIC: "9p",
		unix.CIFS_SUPER_MAGIC: "SMB", unix.SMB2_SUPER_MAGIC: "SMB", unix.AFS_FS_MAGIC: "AFS", unix.MSDOS_SUPER_MAGIC: "FAT",
	}
	return cmp.Or(names[magic], fmt.Sprintf("a file system of kind %#x", magic))
}

// tryMount mounts an overlay in a mount namespace that is gone afterwards, and the mount with it.
func tryMount(dir string) error {
	return check.InOwnMounts(func() error {
		if err := unix.Chdir(dir); err != nil {
			return err
		}
		for _, name := range []string{"lowerdir", "upperdir", "workdir", "mnt"} {
			if err := os.Mkdir(name, 0o700); err != nil {
				return err
			}
		}
		options := "lowerdir=lowerdir,upperdir=upperdir,workdir=workdir"
		if usernamespace.Inside() {
			options += ",userxattr"
		}
		return unix.Mount("overlay", "mnt", "overlay", 0, options)
	})
}
