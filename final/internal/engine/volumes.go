//go:build linux

package engine

import (
	"archive/tar"
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

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
	ErrNoVolume   = errors.New("no such volume")
	ErrVolumeUsed = errors.New("the volume is in use")
)

// A Volume is {root}/volumes/{name}/volume.json.
type Volume struct {
	Name      string
	Created   time.Time
	Labels    map[string]string
	Anonymous bool
}

// dataOf is where a volume's files are.
func (e Engine) dataOf(volume string) string { return filepath.Join(e.Dirs.Volume(volume), "_data") }

// Mountpoint is where the files of a volume are on the host.
func (e Engine) Mountpoint(volume string) (string, error) { return filepath.Abs(e.dataOf(volume)) }

// CreateVolume makes a volume, or finds the one that has this name. Without a name it makes one up.
func (e Engine) CreateVolume(name string, labels map[string]string) (Volume, error) {
	v, lock, err := e.openVolume(Volume{Name: name, Labels: labels})
	if err == nil {
		lock.Close()
	}
	return v, err
}

// openVolume is CreateVolume, and nobody removes the volume until its lock is closed.
func (e Engine) openVolume(v Volume) (_ Volume, lock *os.File, err error) {
	if v.Name == "" {
		random := make([]byte, 32)
		rand.Read(random)
		v.Name, v.Anonymous = hex.EncodeToString(random), true
	}
	if !nameChars.MatchString(v.Name) || len(v.Name) > 255 {
		return v, nil, advice.Add(fmt.Errorf("%q is no name for a volume", v.Name), "names have at least two letters, digits and _.-, and begin with a letter or digit; a folder of the host begins with / or .")
	}
	for {
		lock, err := dirs.LockShared(e.Dirs.Volume(v.Name))
		if err == nil {
			known, err := e.readVolume(v.Name)
			if err != nil {
				lock.Close()
			}
			return known, lock, err
		}
		if !errors.Is(err, os.ErrNotExist) {
			return v, nil, err
		}
		if err := e.makeVolume(v); err != nil && !errors.Is(err, os.ErrExist) {
			return v, nil, err
		}
	}
}

func (e Engine) makeVolume(v Volume) error {
	v.Created = time.Now()
	partial, err := dirs.NewPartial(e.Dirs.Volumes())
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
	if err = partial.Finish(e.Dirs.Volume(v.Name)); err == nil {
		e.Events().Note("volume", "create", v.Name, nil, "driver", "local")
	}
	return err
}

func (e Engine) readVolume(name string) (v Volume, err error) {
	raw, err := os.ReadFile(filepath.Join(e.Dirs.Volume(name), "volume.json"))
	if err == nil {
		err = json.Unmarshal(raw, &v)
	}
	if err != nil {
		err = fmt.Errorf("volume %s: %w", name, err)
	}
	return v, err
}

// Volume returns the volume of this name.
func (e Engine) Volume(name string) (Volume, error) {
	if _, err := os.Stat(e.Dirs.Volume(name)); !nameChars.MatchString(name) || errors.Is(err, os.ErrNotExist) {
		return Volume{}, advice.Add(fmt.Errorf("%w: %q", ErrNoVolume, name), "to see those that are here: gocker volume ls")
	}
	return e.readVolume(name)
}

// Volumes lists the volumes by name, and which containers have each.
func (e Engine) Volumes() (volumes []Volume, used map[string][]string, err error) {
	folders, err := dirs.Glob(e.Dirs.Volumes(), "*")
	if err != nil {
		return nil, nil, err
	}
	for _, folder := range folders {
		v, err := e.readVolume(filepath.Base(folder))
		if errors.Is(err, os.ErrNotExist) {
			continue // removed a moment ago
		}
		if err != nil {
			return nil, nil, err
		}
		volumes = append(volumes, v)
	}
	used, err = e.usedVolumes()
	return volumes, used, err
}

// usedVolumes are those that containers have, whether they run or not: ids by the volume's name.
func (e Engine) usedVolumes() (map[string][]string, error) {
	states, err := e.Ps()
	if err != nil {
		return nil, err
	}
	folder, err := filepath.Abs(e.Dirs.Volumes())
	if err != nil {
		return nil, err
	}
	used := map[string][]string{}
	for _, s := range states {
		spec, err := e.readSpec(s.ID)
		if errors.Is(err, os.ErrNotExist) {
			continue // removed a moment ago
		}
		if err != nil {
			return nil, err
		}
		for _, m := range spec.Mounts {
			if below, ok := strings.CutPrefix(m.Source, folder+"/"); ok {
				name, _, _ := strings.Cut(below, "/")
				used[name] = append(used[name], s.ID)
			}
		}
	}
	return used, nil
}

// RemoveVolume removes a volume that no container has, else it is ErrVolumeUsed.
func (e Engine) RemoveVolume(name string) error {
	if _, err := e.Volume(name); err != nil {
		return err
	}
	lock, err := dirs.TryLock(e.Dirs.Volume(name))
	if errors.Is(err, dirs.ErrLocked) {
		return fmt.Errorf("%w: %s: a container is being made with it", ErrVolumeUsed, name)
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	used, err := e.usedVolumes()
	if err != nil {
		return err
	}
	if ids := used[name]; len(ids) > 0 {
		return advice.Add(fmt.Errorf("%w: %s: container %s", ErrVolumeUsed, name, strings.Join(ids, ", ")), "remove that first: gocker rm %s", ids[0])
	}
	if err = dirs.RemoveAll(e.Dirs.Volume(name)); err == nil {
		e.Events().Note("volume", "destroy", name, nil, "driver", "local")
	}
	return err
}

// PruneVolumes removes the volumes that no container has and nobody wants to keep. bytes is what they had.
func (e Engine) PruneVolumes(unwanted func(Volume) bool, removed func(name string)) (bytes int64, err error) {
	volumes, used, err := e.Volumes()
	for _, v := range volumes {
		if len(used[v.Name]) > 0 || !unwanted(v) {
			continue
		}
		size := bytesOf(e.dataOf(v.Name))
		switch rmErr := e.RemoveVolume(v.Name); {
		case errors.Is(rmErr, ErrVolumeUsed) || errors.Is(rmErr, ErrNoVolume):
		case rmErr != nil:
			err = errors.Join(err, rmErr)
		default:
			removed(v.Name)
			bytes += size
		}
	}
	return bytes, err
}

// removeVolumes removes the volumes that were made for a container only.
func (c *container) removeVolumes() (err error) {
	for _, name := range c.state.Volumes {
		switch rmErr := c.RemoveVolume(name); {
		case rmErr == nil:
			c.Tell.Run(story.After, "a volume of this container only", "rm", "-rf", c.Dirs.Volume(name))
		case !errors.Is(rmErr, ErrNoVolume) && !errors.Is(rmErr, ErrVolumeUsed):
			err = errors.Join(err, rmErr)
		}
	}
	return err
}

// fill gives an empty volume what the image has at the folder that it will hide: files, owners, and the folder's own.
func (e Engine) fill(volume string, f *overlay.FS, destination string) error {
	data := e.dataOf(volume)
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
	e.Tell.Run(story.Host, "a new volume begins with what the image has there", "cp", "-a", "--no-target-directory", folder, data)
	return nil
}

// sortedKeys are the keys of a map, in order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
