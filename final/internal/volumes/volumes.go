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
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step02-untar/untar"
	"gocker/step03-layers/layers"
	"gocker/step04-overlay/overlay"
	"gocker/step04-overlay/story"
)

// A volume is a folder that outlives the containers that have it mounted: {root}/volumes/{name}/_data. Who has one
// without a name made for it is the only one that knows it, so it goes with the container, if that is removed with --rm or
// "rm -v".
//
// Whoever makes a container of it holds the lock of {root}/volumes/{name} shared, until the container's config.json says
// that it is used; who removes it holds that alone.

// What can be wrong with a volume.
var (
	ErrNoVolume = errors.New("no such volume")
	ErrUsed     = errors.New("the volume is in use")
)

// A Volume is {root}/volumes/{name}/volume.json.
type Volume struct {
	Name      string
	Created   time.Time
	Labels    map[string]string
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
	folder, err := filepath.Abs(s.Dirs.Volumes())
	if err != nil {
		return "", false, err
	}
	below, ok := strings.CutPrefix(file, folder+"/")
	name, _, _ = strings.Cut(below, "/")
	return name, ok, nil
}

// Create makes a volume, or finds the one that has this name. Without a name it makes one up.
func (s Store) Create(name string, labels map[string]string) (Volume, error) {
	v, lock, err := s.Open(Volume{Name: name, Labels: labels})
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
	if !names.Valid(v.Name) || len(v.Name) > 255 {
		return v, nil, advice.Add(fmt.Errorf("%q is no name for a volume", v.Name), "%s; a folder of the host begins with / or .", names.Rule)
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
	raw, err := os.ReadFile(filepath.Join(s.Dirs.Volume(name), "volume.json"))
	if err == nil {
		err = json.Unmarshal(raw, &v)
	}
	if err != nil {
		err = fmt.Errorf("volume %s: %w", name, err)
	}
	return v, err
}

// Get returns the volume of this name.
func (s Store) Get(name string) (Volume, error) {
	if _, err := os.Stat(s.Dirs.Volume(name)); !names.Valid(name) || errors.Is(err, os.ErrNotExist) {
		return Volume{}, advice.Add(fmt.Errorf("%w: %q", ErrNoVolume, name), "to see those that are here: gocker volume ls")
	}
	return s.read(name)
}

// List lists the volumes by name.
func (s Store) List() (volumes []Volume, err error) {
	folders, err := dirs.Glob(s.Dirs.Volumes(), "*")
	if err != nil {
		return nil, err
	}
	for _, folder := range folders {
		v, err := s.read(filepath.Base(folder))
		if errors.Is(err, os.ErrNotExist) {
			continue // removed a moment ago
		}
		if err != nil {
			return nil, err
		}
		volumes = append(volumes, v)
	}
	return volumes, nil
}

// Remove removes a volume, unless a container has it: ErrUsed. users tells which containers have each; it is asked when no
// container can be made with this one any more.
func (s Store) Remove(name string, users func() (map[string][]string, error)) error {
	if _, err := s.Get(name); err != nil {
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
	if err != nil {
		return err
	}
	if ids := used[name]; len(ids) > 0 {
		return advice.Add(fmt.Errorf("%w: %s: container %s", ErrUsed, name, strings.Join(ids, ", ")), "remove that first: gocker rm %s", ids[0])
	}
	if err = dirs.RemoveAll(s.Dirs.Volume(name)); err == nil {
		events.Log{Dirs: s.Dirs}.Note("volume", "destroy", name, nil, "driver", "local")
	}
	return err
}

// Fill gives an empty volume what the image has at the folder that it will hide: files, owners, and the folder's own.
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
	go func() { w.CloseWithError(layers.Pack(w, folder)) }()
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
	f.Tell.Run(story.Host, "a new volume begins with what the image has there", "cp", "-a", "--no-target-directory", folder, data)
	return nil
}
