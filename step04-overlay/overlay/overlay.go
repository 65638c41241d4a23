//go:build linux

// Package overlay stacks read-only layers under one writable folder.
//
//	{run}/containers/{id}/fs/mnt        what the process will see
//	{run}/containers/{id}/fs/upperdir   what it adds, updates and deletes
//	{run}/containers/{id}/fs/workdir    overlayfs prepares files here, so that they appear in upperdir at once
//	{run}/containers/{id}/image         a link to the image's folder: who uses it may not lose it
//	lowerdir                            the image's layers, the topmost first: shared, never written
//
//	fs, err := overlay.Create(d, img, nil)
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
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step02-untar/untar"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/merged"
	"gocker/step04-overlay/check"
	"gocker/step04-overlay/story"
)

// An FS is the file system of one container.
type FS struct {
	ID    string       // 12 hex digits
	Dir   string       // {run}/containers/{id}
	Lower merged.Stack // the lowest first
	Tell  story.Story  // hears what is done with it

	// Volatile says that nobody will want the changes after the machine has stopped. Else Unmount has all that is not yet
	// on the disk written there, other programs' files too, and waits. See "Volatile mount" in the kernel's
	// Documentation/filesystems/overlayfs.rst.
	Volatile bool

	lock *os.File
}

// Mnt is where the merged files are, once mounted.
func (f *FS) Mnt() string { return filepath.Join(f.Dir, "fs", "mnt") }

// Upperdir is where changes go.
func (f *FS) Upperdir() string { return filepath.Join(f.Dir, "fs", "upperdir") }

// Workdir is overlayfs's own.
func (f *FS) Workdir() string { return filepath.Join(f.Dir, "fs", "workdir") }

// Create makes the folders of a new container of img. The caller ends with Remove or Close. tell hears of all that is
// done to the file system.
func Create(d dirs.Dirs, img layers.Image, tell story.Story) (*FS, error) {
	// Held until the link below says that the image is used: images.Remove waits for it.
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
	f := &FS{ID: id, Dir: d.Container(id), Lower: img.Stack(d), Tell: tell}
	if f.lock, err = dirs.Lock(f.Dir); err != nil {
		return nil, err
	}
	if err := f.makeFolders(d.Image(img.ID)); err != nil {
		return nil, errors.Join(err, f.Remove())
	}
	return f, nil
}

func (f *FS) makeFolders(image string) error {
	if err := os.Symlink(image, filepath.Join(f.Dir, "image")); err != nil {
		return err
	}
	for _, dir := range []string{f.Mnt(), f.Upperdir(), f.Workdir()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	f.Tell.Run(story.Host, "a folder that only root looks into: an image may bring setuid programs", "mkdir", "-m", "700", f.Dir)
	f.Tell.Sh(story.Host, "the lock says that somebody has the container", "exec 9<"+story.Quote(f.Dir)+" && flock 9")
	f.Tell.Run(story.Host, "what the container sees, what it changes, and what overlayfs needs", "mkdir", "-p", f.Mnt(), f.Upperdir(), f.Workdir())
	f.Tell.Run(story.Host, "the image is in use: it stays", "ln", "-s", image, filepath.Join(f.Dir, "image"))
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
	f.Tell.Sh(story.Host, "upperdir is on top, so the root folder gets its owner and mode from there",
		story.Quote("tar", "-C", f.Lower[len(f.Lower)-1], "--xattrs", "--no-recursion", "-c", ".")+" | "+
			story.Quote("tar", "-C", f.Upperdir(), "--xattrs", "-x", "-p"))
	return w.Finish()
}

// Mount lays the layers over each other at Mnt.
func (f *FS) Mount() error {
	data := f.options(f.Lower)
	if len(data) >= os.Getpagesize() {
		return f.mountByLinks()
	}
	if err := f.mount(data); err != nil {
		return err
	}
	f.Tell.Run(story.Host, f.about(), f.command(data)...)
	return nil
}

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

func (f *FS) about() string {
	return fmt.Sprintf("%d layers over each other, the topmost first, and all changes go to upperdir", len(f.Lower))
}

func (f *FS) command(options string) []string {
	return []string{"mount", "-t", "overlay", "-o", "nodev," + options, "overlay", f.Mnt()}
}

// options are the last argument of mount(2). A page is all that the kernel reads of it.
func (f *FS) options(lower merged.Stack) string {
	topmostFirst := slices.Clone(lower)
	slices.Reverse(topmostFirst)
	for i, dir := range topmostFirst {
		topmostFirst[i] = escape(dir)
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s",
		strings.Join(topmostFirst, ":"), escape(f.Upperdir()), escape(f.Workdir()))
	if f.Volatile {
		options += ",volatile"
	}
	return options
}

// escape protects the characters that part options and folders from each other.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`).Replace(path)
}

// mountByLinks is for layers whose names together are longer than a page: a folder has links 0, 1, 2, … to them, and a
// thread for which it is the working directory needs to say no more than these. So there can be as many as overlayfs
// takes, which are 500. The kernel keeps the folders, not their names: the links are gone afterwards.
func (f *FS) mountByLinks() error {
	return check.OnThread(func() error {
		if err := unix.Unshare(unix.CLONE_FS); err != nil { // else all threads would go there
			return fmt.Errorf("unshare: %w", err)
		}
		return f.mountInLinks()
	})
}

// mountInLinks changes the working directory of its thread.
func (f *FS) mountInLinks() error {
	links := filepath.Join(f.Dir, "lower")
	if err := os.Mkdir(links, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(links)
	var short merged.Stack
	for i, layer := range f.Lower {
		name := strconv.Itoa(i)
		if err := os.Symlink(layer, filepath.Join(links, name)); err != nil {
			return err
		}
		short = append(short, name)
	}
	if err := unix.Chdir(links); err != nil {
		return fmt.Errorf("chdir %q: %w", links, err)
	}
	if err := f.mount(f.options(short)); err != nil {
		return err
	}
	f.Tell.Sh(story.Host, f.about(), "("+story.Quote("mkdir", links)+" && "+story.Quote("cd", links)+" && n=0\n for layer in "+
		story.Quote(f.Lower...)+"; do ln -s \"$layer\" $n; n=$((n+1)); done\n "+
		story.Quote(f.command(f.options(short))...)+" && "+story.Quote("rm", "-r", links)+")")
	return nil
}

// MountAside mounts for one thread alone, in a mount namespace of its own, and calls use there. Afterwards nothing is
// mounted, also if this process was killed. Of the working directory and of what use mounts only that thread knows.
func (f *FS) MountAside(use func() error) error {
	mount := f.mountInLinks
	if data := f.options(f.Lower); len(data) < os.Getpagesize() {
		mount = func() error { return f.mount(data) }
	}
	return aside(mount, use)
}

// ErrNotMounted says that nothing is mounted at Mnt.
var ErrNotMounted = errors.New("the file system is not mounted")

// MountedAside is MountAside for one that somebody else has mounted, and who may unmount it meanwhile.
func (f *FS) MountedAside(use func() error) error {
	return aside(func() error {
		var mnt, dir unix.Stat_t
		if err := errors.Join(unix.Stat(f.Mnt(), &mnt), unix.Stat(f.Dir, &dir)); err != nil {
			return fmt.Errorf("%w: %w", ErrNotMounted, err)
		}
		if mnt.Dev == dir.Dev {
			return fmt.Errorf("%w: %s", ErrNotMounted, f.Mnt())
		}
		return nil
	}, use)
}

// aside calls both on one thread in a mount namespace of its own.
func aside(mount, use func() error) error {
	return check.OnThread(func() error {
		if err := leave(); err != nil {
			return err
		}
		if err := mount(); err != nil {
			return err
		}
		return use()
	})
}

// leave gives the calling thread a mount namespace of its own.
func leave() error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make all mounts private: %w", err)
	}
	return nil
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
	return check.Explain(err, Checks(dirs.Dirs{Run: filepath.Dir(filepath.Dir(f.Dir))}))
}

// Unmount undoes Mount. Where nothing is mounted it does nothing.
func (f *FS) Unmount() error {
	// A process that still has a file open there keeps the mount busy; MNT_DETACH takes the name away at once.
	err := unix.Unmount(f.Mnt(), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) { // EINVAL: not a mount point
		return fmt.Errorf("unmount %q: %w", f.Mnt(), err)
	}
	if err == nil {
		f.Tell.Run(story.After, "the layers are as they were", "umount", "-l", f.Mnt())
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
	f.Tell.Run(story.After, "with all that the container changed", "rm", "-rf", f.Dir)
	return os.RemoveAll(f.Dir)
}

// Close gives up the lock and leaves the folder.
func (f *FS) Close() error { return f.lock.Close() }

// Open opens a container that nobody has open, else it fails with dirs.ErrLocked. The caller ends with Remove or Close.
func Open(d dirs.Dirs, id string) (*FS, error) {
	f := &FS{ID: id, Dir: d.Container(id)}
	var err error
	f.lock, err = dirs.TryLock(f.Dir)
	return f, err
}

// Lock is what holds the container, for a process that goes on with it. There it is Adopt's.
func (f *FS) Lock() *os.File { return f.lock }

// Adopt is Open for a process that was given the lock.
func Adopt(d dirs.Dirs, id string, lock *os.File) *FS {
	return &FS{ID: id, Dir: d.Container(id), lock: lock}
}

// EachDead opens the containers whose gocker died, one after the other, and hands each to do, which ends it with Remove or
// Close: a lock is a descriptor, of which a process has few. What cannot be looked at is left as it is, and an error.
// A folder with anything in it but what this package and known name belongs to a later step, which knows how to end
// it, and is left alone. What is known may be a pattern: "log*".
func EachDead(d dirs.Dirs, do func(*FS) error, known ...string) error {
	folders, err := dirs.Glob(d.Containers(), "*")
	for _, folder := range folders {
		f, openErr := openDead(d, filepath.Base(folder), known)
		if f != nil {
			openErr = do(f)
		}
		err = errors.Join(err, openErr)
	}
	return err
}

// openDead returns nil for a container that is alive, or a later step's.
func openDead(d dirs.Dirs, id string, known []string) (*FS, error) {
	f, err := Open(d, id)
	if errors.Is(err, dirs.ErrLocked) || errors.Is(err, os.ErrNotExist) {
		return nil, nil // alive, or gone meanwhile
	}
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(f.Dir)
	if err != nil || slices.ContainsFunc(entries, func(e os.DirEntry) bool { return !isKnown(e.Name(), known) }) {
		f.Close()
		return nil, err
	}
	return f, nil
}

func isKnown(name string, known []string) bool {
	return slices.ContainsFunc(append([]string{"fs", "image", "lower"}, known...), func(pattern string) bool {
		match, err := filepath.Match(pattern, name)
		return match && err == nil
	})
}

// RemoveDead removes what dead containers have left.
func RemoveDead(d dirs.Dirs) error { return EachDead(d, (*FS).Remove) }
