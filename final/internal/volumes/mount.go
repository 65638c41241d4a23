//go:build linux

package volumes

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step04-overlay/story"
	"gocker/step05-namespaces/rootfs"
)

// A volume with options is what mount(2) makes of them: type is a file system, device what is mounted, and o what else
// mount(8) takes behind -o. It is mounted at _data as long as somebody uses it:
//
//	{root}/volumes/.mounted          locked for a moment, by a command that mounts or unmounts a volume
//	{root}/volumes/.mounted/{name}   locked shared by each process that uses that volume
//
// If all of these processes died, the next command unmounts it: Store.UnmountUnused.

// ErrOptions says that a volume cannot be mounted so.
var ErrOptions = errors.New("no options of a volume")

func (s Store) mounted() string { return filepath.Join(s.Dirs.Volumes(), ".mounted") }

// CheckOptions finds what is wrong with options before anything is mounted: as docker, it wants type and device.
func CheckOptions(options map[string]string) error {
	for name := range options {
		switch name {
		case "type", "device", "o":
		case "size":
			return advice.Add(fmt.Errorf("%w: size", ErrOptions), "for a folder in memory it is part of o: -o type=tmpfs -o device=tmpfs -o o=size=64m; no other has a limit")
		default:
			return advice.Add(fmt.Errorf("%w: %q", ErrOptions, name), "there are type, device and o")
		}
	}
	for _, name := range []string{"type", "device"} {
		if len(options) > 0 && options[name] == "" {
			return advice.Add(fmt.Errorf("%w: %s is missing", ErrOptions, name), "for example: -o type=tmpfs -o device=tmpfs, or -o type=none -o o=bind -o device=/DIR")
		}
	}
	_, _, err := mountArguments(options)
	return err
}

// mountArguments are the last two arguments of mount(2).
func mountArguments(options map[string]string) (flags uintptr, data string, err error) {
	if options["o"] == "" {
		return 0, "", nil
	}
	words := strings.Split(options["o"], ",")
	flags, _, data = rootfs.MountOptions(words)
	switch recursive := slices.Contains(words, "rbind"); {
	case recursive:
		flags |= unix.MS_BIND | unix.MS_REC
	case slices.Contains(words, "bind"):
		flags |= unix.MS_BIND
	}
	if flags&unix.MS_BIND != 0 && data != "" { // the kernel would not read them
		err = fmt.Errorf("%w: a bind has no option %q", ErrOptions, data)
	}
	return flags, data, err
}

// Use mounts a volume that has options, unless somebody else uses it already, and keeps it so until done is called, or this
// process ends. end is where done stands in the story.
func (s Store) Use(v Volume, tell story.Story, end story.Where) (done func() error, err error) {
	if len(v.Options) == 0 {
		return func() error { return nil }, nil
	}
	lock, err := dirs.Lock(s.mounted())
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := s.unmountUnused(v.Name); err != nil { // what a crash left
		return nil, err
	}
	user := filepath.Join(s.mounted(), v.Name)
	if err := os.Mkdir(user, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	using, err := dirs.LockShared(user)
	if err != nil {
		return nil, err
	}
	if on, err := isMountPoint(s.DataOf(v.Name)); err != nil || !on {
		if err = cmp.Or(err, s.mount(v, tell)); err != nil {
			using.Close()
			return nil, errors.Join(err, s.unmountUnused(v.Name))
		}
	}
	return func() error {
		lock, err := dirs.Lock(s.mounted())
		using.Close()
		if err != nil {
			return err
		}
		defer lock.Close()
		tell.Run(end, "nobody else uses the volume", "umount", "-l", s.DataOf(v.Name))
		return s.unmountUnused(v.Name)
	}, nil
}

func (s Store) mount(v Volume, tell story.Story) error {
	flags, data, err := mountArguments(v.Options)
	if err != nil {
		return err
	}
	device, kind, at := v.Options["device"], v.Options["type"], s.DataOf(v.Name)
	err = unix.Mount(device, at, kind, flags, data)
	if attributes := flags &^ (unix.MS_BIND | unix.MS_REC); err == nil && flags&unix.MS_BIND != 0 && attributes != 0 {
		// A new bind has the flags of the mount that it shows: "ro" takes a second call.
		if err = unix.Mount("", at, "", unix.MS_BIND|unix.MS_REMOUNT|attributes, ""); err != nil {
			err = errors.Join(err, unix.Unmount(at, unix.MNT_DETACH))
		}
	}
	if err != nil {
		return explain(fmt.Errorf("mount volume %s: %q as %s with %q: %w", v.Name, device, kind, v.Options["o"], err), device, kind)
	}
	words := []string{"mount"}
	if flags&unix.MS_BIND == 0 {
		words = append(words, "-t", kind)
	}
	if v.Options["o"] != "" {
		words = append(words, "-o", v.Options["o"])
	}
	tell.Run(story.Host, "the volume is what its options say", append(words, device, at)...)
	return nil
}

// explain says what to do about an error of mount(2).
func explain(err error, device, kind string) error {
	switch {
	case errors.Is(err, unix.ENODEV):
		return advice.Add(err, "this kernel has no file system %q: those that it has are in /proc/filesystems", kind)
	case errors.Is(err, unix.ENOTBLK):
		return advice.Add(err, "a file is no device; this makes one of it: losetup --find --show %s", device)
	case errors.Is(err, unix.ENOENT):
		return advice.Add(err, "device is a name on this machine: make %s first", device)
	}
	return err
}

// UnmountUnused unmounts all volumes that nobody uses: those that a crash has left.
func (s Store) UnmountUnused() error {
	names, err := os.ReadDir(s.mounted())
	if errors.Is(err, os.ErrNotExist) || len(names) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	lock, err := dirs.Lock(s.mounted())
	if err != nil {
		return err
	}
	defer lock.Close()
	for _, name := range names {
		err = errors.Join(err, s.unmountUnused(name.Name()))
	}
	return err
}

// unmountUnused is for a caller that has the lock.
func (s Store) unmountUnused(name string) error {
	user := filepath.Join(s.mounted(), name)
	nobody, err := dirs.TryLock(user)
	switch {
	case errors.Is(err, dirs.ErrLocked) || errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	defer nobody.Close()
	// A process on the host may have its working folder there; MNT_DETACH takes the name away at once.
	err = unix.Unmount(s.DataOf(name), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && err != unix.EINVAL && err != unix.ENOENT { // EINVAL: not a mount point
		return fmt.Errorf("unmount volume %s: %w", name, err)
	}
	return os.Remove(user)
}

// notMounted is an error if something is mounted at a volume's folder: to remove the files there would remove those of the mount.
func (s Store) notMounted(name string) error {
	if err := s.UnmountUnused(); err != nil {
		return err
	}
	on, err := isMountPoint(s.DataOf(name))
	if err == nil && on {
		err = advice.Add(fmt.Errorf("%w: %s: something is mounted at its folder", ErrUsed, name), "unmount that first: umount %s", s.DataOf(name))
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// isMountPoint tells whether something is mounted at a folder.
func isMountPoint(folder string) (bool, error) {
	var stat unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, folder, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, &stat)
	if err != nil {
		return false, fmt.Errorf("look at %q: %w", folder, err)
	}
	return stat.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}
