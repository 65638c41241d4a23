//go:build linux

// Package volumes holds folders that outlive the containers that have them mounted.
package volumes

import (
	"archive/tar"
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gocker/final/internal/events"
	"gocker/final/internal/names"
	"gocker/final/internal/store"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step02-untar/untar"
	"gocker/step04-overlay/overlay"
	"gocker/step04-overlay/story"
)

// A volume is a folder that outlives the containers that have it mounted: {root}/volumes/{name}/_data. A volume that was made
// without a name for one container is known to this container only, so it goes with it, if that is removed with --rm or "rm -v".
//
// A command that makes a container with it holds the lock of {root}/volumes/{name} shared, until the container's config.json says
// that it is used; a command that removes it holds that alone.

// These errors say what is wrong with a volume.
var (
	ErrNoVolume = errors.New("no such volume")
	ErrUsed     = errors.New("the volume is in use")
)

// A Volume is {root}/volumes/{name}/volume.json.
type Volume struct {
	Name      string
	Created   time.Time
	Labels    map[string]string
	Options   map[string]string `json:",omitempty"` // of docker's driver local: see CheckOptions
	Anonymous bool
}

// A Store is the volumes of one pair of folders.
type Store struct{ Dirs dirs.Dirs }

// DataOf is where a volume's files are.
func (s Store) DataOf(volume string) string { return filepath.Join(s.Dirs.Volume(volume), "_data") }

// Mountpoint is where the files of a volume are on the host.
func (s Store) Mountpoint(volume string) (string, error) { return filepath.Abs(s.DataOf(volume)) }

// NameOf is the name of the volume that a file of the host is in, if it is in one.
func (s Store) NameOf(file string) (name string, ok bool, err error) {
	below, _, err := dirs.Below(s.Dirs.Volumes(), file)
	name, _, _ = strings.Cut(below, "/")
	return name, name != "", err
}

// Create makes a volume, or finds the one that has this name, whatever else is wanted of it. Without a name it makes one up.
func (s Store) Create(v Volume) (Volume, error) {
	v, lock, err := s.Open(v)
	if err == nil {
		lock.Close()
	}
	return v, err
}

// Open is Create, and nobody removes the volume until its lock is closed.
func (s Store) Open(v Volume) (_ Volume, lock *os.File, err error) {
	if v.Name == "" {
		random := make([]byte, 32)
		rand.Read(random)
		v.Name, v.Anonymous = hex.EncodeToString(random), true
	}
	if !names.Valid(v.Name) {
		return v, nil, advice.Add(fmt.Errorf("%q is no name for a volume", v.Name), "%s; a folder of the host begins with / or .", names.Rule)
	}
	if err := CheckOptions(v.Options); err != nil {
		return v, nil, err
	}
	for {
		lock, err := dirs.LockShared(s.Dirs.Volume(v.Name))
		if err == nil {
			known, err := s.read(v.Name)
			if err != nil {
				lock.Close()
			}
			return known, lock, err
		}
		if !errors.Is(err, os.ErrNotExist) {
			return v, nil, err
		}
		if err := s.make(v); err != nil && !errors.Is(err, os.ErrExist) {
			return v, nil, err
		}
	}
}

func (s Store) make(v Volume) error {
	v.Created = time.Now()
	partial, err := dirs.NewPartial(s.Dirs.Volumes())
	if err != nil {
		return err
	}
	defer partial.Discard()
	if err := os.Mkdir(filepath.Join(partial.Path, "_data"), 0o755); err != nil {
		return err
	}
	file, err := os.Create(filepath.Join(partial.Path, "volume.json"))
	if err != nil {
		return err
	}
	defer file.Close()
	if err := cmp.Or(json.NewEncoder(file).Encode(v), file.Sync()); err != nil { // it must survive a power cut
		return err
	}
	if err = partial.Finish(s.Dirs.Volume(v.Name)); err == nil {
		events.Log{Dirs: s.Dirs}.Note("volume", "create", v.Name, nil, "driver", "local")
	}
	return err
}

func (s Store) read(name string) (v Volume, err error) {
	err = dirs.ReadJSON(filepath.Join(s.Dirs.Volume(name), "volume.json"), &v)
	if err != nil {
		damaged := errors.Is(err, dirs.ErrDamaged)
		if err = fmt.Errorf("volume %s: read its volume.json: %w", name, err); damaged {
			err = advice.Add(err, "its files are in %s; to remove all of it: gocker volume rm %s", s.DataOf(name), name)
		}
	}
	return v, err
}

// Get returns the volume of this name.
func (s Store) Get(name string) (Volume, error) {
	if err := s.has(name); err != nil {
		return Volume{}, err
	}
	return s.read(name)
}

func (s Store) has(name string) error {
	err := os.ErrNotExist
	if names.Valid(name) {
		_, err = os.Stat(s.Dirs.Volume(name))
	}
	if errors.Is(err, os.ErrNotExist) {
		return advice.Add(fmt.Errorf("%w: %q", ErrNoVolume, name), "to see those that are here: gocker volume ls")
	}
	return err
}

// List lists the volumes by name. An error names those that cannot be read. All others are in the list.
func (s Store) List() (volumes []Volume, err error) {
	folders, err := dirs.Glob(s.Dirs.Volumes(), "*")
	if err != nil {
		return nil, err
	}
	for _, folder := range folders {
		name := filepath.Base(folder)
		if !names.Valid(name) {
			continue // one that is not ready yet
		}
		v, readErr := s.read(name)
		if readErr == nil {
			volumes = append(volumes, v)
		} else if !errors.Is(s.has(name), ErrNoVolume) { // else it was removed a moment ago
			err = errors.Join(err, readErr)
		}
	}
	return volumes, err
}

// Remove removes a volume, unless a container has it: ErrUsed. users tells which containers have each, or nil if it does not
// know. Remove asks it when no container can be made with this volume any more.
func (s Store) Remove(name string, users func() (map[string][]string, error)) error {
	if err := s.has(name); err != nil {
		return err
	}
	lock, err := dirs.TryLock(s.Dirs.Volume(name))
	if errors.Is(err, dirs.ErrLocked) {
		return fmt.Errorf("%w: %s: a container is being made with it", ErrUsed, name)
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	used, err := users()
	if used == nil {
		return fmt.Errorf("volume %s is kept, a container may have it: %w", name, err)
	}
	if ids := used[name]; len(ids) > 0 {
		return advice.Add(fmt.Errorf("%w: %s: container %s", ErrUsed, name, strings.Join(ids, ", ")), "remove that first: gocker rm %s", ids[0])
	}
	if err := s.notMounted(name); err != nil {
		return err
	}
	if err = dirs.RemoveAll(s.Dirs.Volume(name)); err == nil {
		events.Log{Dirs: s.Dirs}.Note("volume", "destroy", name, nil, "driver", "local")
	}
	return err
}

// Fill copies into an empty volume what the image has at the folder that the volume will hide: files with their owners, and the
// folder's own. A volume with options must be mounted.
func (s Store) Fill(volume string, f *overlay.FS, destination string) error {
	data := s.DataOf(volume)
	if entries, err := os.ReadDir(data); err != nil || len(entries) > 0 {
		return err
	}
	mnt, err := os.Open(f.Mnt())
	if err != nil {
		return err
	}
	defer mnt.Close()
	// The image's links are followed as the container will follow them.
	fd, err := unix.Openat2(int(mnt.Fd()), destination, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for %q in the image: %w", destination, err)
	}
	defer unix.Close(fd)
	// Nobody else has the container yet, so this name stays what it is.
	folder, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(store.Pack(w, folder)) }()
	defer r.Close()
	to, err := untar.NewWriter(data)
	if err != nil {
		return err
	}
	defer to.Close()
	err = untar.Each(r, func(header *tar.Header, content io.Reader) error { return to.Write(header, content) })
	if err := cmp.Or(err, to.Finish()); err != nil {
		return fmt.Errorf("fill volume %s with %q of the image: %w", volume, destination, err)
	}
	f.Tell.Run(story.Host, "a new volume begins with the image's files of that place", "cp", "-a", "--no-target-directory", folder, data)
	return nil
}
