//go:build linux

// Package overlay stacks read-only layers under one writable folder.
//
//	{run}/containers/{id}/fs/mnt        what the process will see
//	{run}/containers/{id}/fs/upperdir   what it adds, updates and deletes
//	{run}/containers/{id}/fs/workdir    overlayfs prepares files here, so that they appear in upperdir at once
//	{run}/containers/{id}/image         a link to the image's folder: an image in use may not be removed
//	lowerdir                            the image's layers, the topmost first: shared, never written
//
//	fs, err := overlay.Create(d, img)
//	err = fs.Mount()
//	…                                   use fs.Mnt()
//	err = fs.Remove()
//
// As long as the FS is not closed, its folder is locked: a container without a lock is one whose gocker died, and
// RemoveDead clears it away. It isolates nothing: namespaces do that.
//
// See mount(2) and https://docs.kernel.org/filesystems/overlayfs.html.
package overlay

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step02-untar/untar"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/merged"
	"gocker/step03-layers/usernamespace"
	"gocker/step04-overlay/check"
	"gocker/step04-overlay/overlaycheck"
	"gocker/step04-overlay/story"
)

// An FS is the file system of one container.
type FS struct {
	ID    string       // 12 hex digits
	Dir   string       // {run}/containers/{id}, or where that leads
	Lower merged.Stack // the lowest first
	Tell  story.Story  // hears what is done with it: see Explain

	// Volatile says that nobody will want the changes after the machine has stopped. Else Unmount has all that is not yet
	// on the disk written there, other programs' files too, and waits. See "Volatile mount" in the kernel's
	// Documentation/filesystems/overlayfs.rst.
	Volatile bool

	// Over, if there is one, shows the layers and the container's folder otherwise than they are. It mounts something over each, on a
	// thread with a mount namespace of its own, before that thread lays them over each other.
	Over func(folders []string) error

	lock *os.File
}

// Mnt is where the merged files are, once mounted.
func (f *FS) Mnt() string { return filepath.Join(f.Dir, "fs", "mnt") }

// Upperdir is where changes go.
func (f *FS) Upperdir() string { return filepath.Join(f.Dir, "fs", "upperdir") }

// Workdir is overlayfs's own.
func (f *FS) Workdir() string { return filepath.Join(f.Dir, "fs", "workdir") }

// none lies below the changes of an image without layers: overlayfs wants one at least.
func (f *FS) none() string { return filepath.Join(f.Dir, "fs", "lowerdir") }

// Create makes the folders of a new container of img. The caller ends with Remove or Close.
func Create(d dirs.Dirs, img layers.Image) (*FS, error) { return CreateIn(d, img, dirs.Lock) }

// CreateIn is Create for a caller that makes the container's own folder, and locks it.
func CreateIn(d dirs.Dirs, img layers.Image, lock func(folder string) (*os.File, error)) (*FS, error) {
	// Held until the link below says that the image is used: local.Remove waits for it.
	image, err := dirs.LockShared(d.Image(img.ID))
	if err != nil {
		return nil, advice.Add(err, "the image was removed a moment ago; pull it again")
	}
	defer image.Close()

	run, err := filepath.Abs(d.Run)
	if err != nil {
		return nil, err
	}
	root, err := filepath.Abs(d.Root)
	if err != nil {
		return nil, err
	}
	d = dirs.Dirs{Root: root, Run: run}
	random := make([]byte, 6)
	rand.Read(random)
	id := hex.EncodeToString(random)
	held, err := lock(d.Container(id))
	if err != nil {
		return nil, err
	}
	f := At(d, id)
	f.Lower, f.lock = img.Stack(d), held
	if err := f.makeFolders(d.Image(img.ID)); err != nil {
		return nil, errors.Join(err, f.Remove())
	}
	return f, nil
}

func (f *FS) makeFolders(image string) error {
	if err := os.Symlink(image, filepath.Join(f.Dir, "image")); err != nil {
		return err
	}
	folders := []string{filepath.Dir(f.Mnt()), f.Mnt(), f.Upperdir(), f.Workdir()}
	if len(f.Lower) == 0 {
		folders = append(folders, f.none())
	}
	for _, dir := range folders {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if len(f.Lower) == 0 {
		return nil
	}
	// The merged root folder looks like the topmost folder of all, which is upperdir.
	top, err := merged.Header(f.Lower[len(f.Lower)-1])
	if err != nil {
		return advice.Add(err, layerGone)
	}
	top.Name = "."
	w, err := untar.NewWriter(f.Upperdir())
	if err != nil {
		return err
	}
	defer w.Close()
	if err := w.Write(top, nil); err != nil {
		return err
	}
	return w.Finish()
}

// Mount lays the layers over each other at Mnt.
func (f *FS) Mount() error {
	mount := f.mountByLinks
	if f.Over != nil {
		mount = f.mountOver
	} else if f.optionsFit() {
		mount = func() error { return f.mount(f.options(f.Lower)) }
	}
	err := mount()
	if err == nil {
		f.did(mounted)
	}
	return err
}

// optionsFit tells whether the kernel reads all of the options: it reads one page.
func (f *FS) optionsFit() bool { return len(f.options(f.Lower)) < os.Getpagesize() }

func (f *FS) mount(options string) error {
	// The kernel marks the workdir of a volatile mount, and mounts it again when the mark is gone.
	if err := os.RemoveAll(filepath.Join(f.Workdir(), "work", "incompat")); err != nil {
		return err
	}
	// An image may bring device nodes, of this machine's disks too. nodev makes them dead; those that programs need are
	// made in the container's own /dev.
	if err := unix.Mount("overlay", f.Mnt(), "overlay", unix.MS_NODEV, options); err != nil {
		return f.explain(fmt.Errorf("mount overlay on %q: %w", f.Mnt(), err))
	}
	return nil
}

// options are the last argument of mount(2).
func (f *FS) options(lower merged.Stack) string {
	if len(lower) == 0 {
		lower = merged.Stack{f.none()}
	}
	topmostFirst := slices.Clone(lower)
	slices.Reverse(topmostFirst)
	for i, dir := range topmostFirst {
		topmostFirst[i] = Escape(dir)
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s",
		strings.Join(topmostFirst, ":"), Escape(f.Upperdir()), Escape(f.Workdir()))
	if usernamespace.Inside() { // only the machine's root may write trusted.overlay.*, which overlayfs else writes
		options += ",userxattr"
	}
	if f.Volatile {
		options += ",volatile"
	}
	return options
}

// Escape protects the characters that part options and folders from each other.
func Escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`).Replace(path)
}

// maxLayers is OVL_MAX_STACK of fs/overlayfs/params.h.
const maxLayers = 500

const layerGone = "a layer of this image is gone; pull it again"

// explain finds out which precondition of mount(2) did not hold, as far as that can be seen from here.
func (f *FS) explain(err error) error {
	if len(f.Lower) > maxLayers {
		return fmt.Errorf("%w: it has %d layers, and overlayfs takes %d", err, len(f.Lower), maxLayers)
	}
	for _, layer := range f.Lower {
		if _, statErr := os.Stat(layer); statErr != nil {
			return advice.Add(fmt.Errorf("%w: lowerdir %w", err, statErr), layerGone)
		}
	}
	return check.Explain(err, overlaycheck.Results(filepath.Dir(f.Dir)))
}

// Unmount undoes Mount. Where nothing is mounted it does nothing.
func (f *FS) Unmount() error {
	// A process that still has a file open there keeps the mount busy; MNT_DETACH takes the name away at once.
	err := unix.Unmount(f.Mnt(), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) { // EINVAL: not a mount point
		return fmt.Errorf("unmount %q: %w", f.Mnt(), err)
	}
	if err == nil {
		f.did(unmounted)
	}
	return nil
}

// Remove unmounts and removes all that the container has on disk.
func (f *FS) Remove() error {
	defer f.Close()
	// If the overlay stayed mounted, removing files below it would be the container's files, not its folder.
	if err := f.Unmount(); err != nil {
		return err
	}
	f.did(removed)
	if err := dirs.RemoveLocked(f.Dir); !errors.Is(err, os.ErrNotExist) { // else it was removed by hand
		return err
	}
	return nil
}

// Close gives up the lock and leaves the folder.
func (f *FS) Close() error { return f.lock.Close() }
