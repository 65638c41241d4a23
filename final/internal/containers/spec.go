//go:build linux

package containers

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/final/internal/disk"
	"gocker/final/internal/images"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/merged"
	"gocker/step04-overlay/overlay"
)

// A linuxSpec is config.json without what other systems have in it. Package json looks at all of a type when it meets it
// first, for a large part of a millisecond, and fields that stand here it looks for nowhere else.
type linuxSpec struct {
	*specs.Spec
	Solaris *struct{} `json:"solaris,omitempty"`
	Windows *struct{} `json:"windows,omitempty"`
	VM      *struct{} `json:"vm,omitempty"`
	ZOS     *struct{} `json:"zos,omitempty"`
	FreeBSD *struct{} `json:"freebsd,omitempty"`
}

// ReadSpec reads the description of a container.
func (store Store) ReadSpec(id string) (*specs.Spec, error) {
	return readSpec(store.Dirs.Container(id))
}

func readSpec(folder string) (*specs.Spec, error) {
	spec := linuxSpec{Spec: &specs.Spec{}}
	if err := dirs.ReadJSON(filepath.Join(folder, specName), &spec); err != nil {
		return nil, broken(filepath.Base(folder), specName, err)
	}
	return spec.Spec, nil
}

// ReadProcess reads of it only what one more process in the container needs: its first process, the namespaces and the filter
// of system calls.
func (store Store) ReadProcess(id string) (*specs.Spec, error) {
	var part struct {
		Process *specs.Process
		Linux   struct {
			Namespaces []specs.LinuxNamespace
			Seccomp    *specs.LinuxSeccomp

			UIDMappings, GIDMappings []specs.LinuxIDMapping
		}
	}
	if err := dirs.ReadJSON(filepath.Join(store.Dirs.Container(id), specName), &part); err != nil {
		return nil, broken(id, specName, err)
	}
	linux := &specs.Linux{
		Namespaces: part.Linux.Namespaces, Seccomp: part.Linux.Seccomp,
		UIDMappings: part.Linux.UIDMappings, GIDMappings: part.Linux.GIDMappings,
	}
	return &specs.Spec{Process: part.Process, Linux: linux}, nil
}

// WriteSpec writes it, in one line: with indents, every second line would only have the name of a system call.
func (store Store) WriteSpec(id string, spec *specs.Spec) error {
	return writeSpec(store.Dirs.Container(id), spec)
}

func writeSpec(folder string, spec *specs.Spec) error {
	raw, err := json.Marshal(linuxSpec{Spec: spec})
	if err != nil {
		return err
	}
	return replace(filepath.Join(folder, specName), raw)
}

// broken is the error of a container's file. If the file is gone or damaged, a full disk or a user has done that.
// Otherwise it may be read another time.
func broken(id, file string, err error) error {
	lost := dirs.Lost(err)
	err = fmt.Errorf("container %s: read its %s: %w", id, file, err)
	if lost {
		err = advice.Add(err, "it cannot be used any more; to remove it: gocker rm -f %s", id)
	}
	return err
}

// View is the file system of a container that another process may run: only to look at it.
func (store Store) View(id string) (*overlay.FS, error) {
	img, err := store.ImageOf(id)
	if err != nil {
		return nil, err
	}
	f := overlay.At(store.Dirs, id)
	f.Lower = store.stack(img, f.Dir)
	return f, nil
}

// ChangedBytes is what the files have that a container added and changed.
func (store Store) ChangedBytes(id string) int64 {
	return disk.Bytes(filepath.Join(store.Dirs.Container(id), "fs", "upperdir"))
}

// ImageOf is the image that a container was made of, whatever it is called now.
func (store Store) ImageOf(id string) (layers.Image, error) {
	image, err := os.Readlink(filepath.Join(store.Dirs.Container(id), "image"))
	if err != nil {
		return layers.Image{}, broken(id, "image", err)
	}
	return layers.Open(store.Dirs, filepath.Base(image))
}

// SplitChanges tells what a container changed from targets, which gocker made to mount something on: those, and the
// folders around them that are but for that as the image has them.
func SplitChanges(f *overlay.FS, mounts []specs.Mount) (changes []overlay.Change, targets []string, err error) {
	all, err := f.Changes()
	if err != nil {
		return nil, nil, err
	}
	hasTarget, hasChange := map[string]bool{}, map[string]bool{}
	for _, c := range slices.Backward(all) { // a folder after what is in it
		at := filepath.Join(f.Upperdir(), c.Path)
		isTarget := false
		switch {
		case hasChange[c.Path]:
		case c.Kind == 'A' && slices.ContainsFunc(mounts, func(m specs.Mount) bool { return m.Destination == c.Path }):
			info, err := os.Lstat(at)
			if err != nil && !merged.Moved(err) {
				return nil, nil, err
			}
			isTarget = err == nil && (info.IsDir() || info.Mode().IsRegular() && info.Size() == 0)
		case hasTarget[c.Path] && c.Kind == 'A':
			isTarget = true
		case hasTarget[c.Path] && c.Kind == 'C':
			if isTarget, err = images.IsSame(filepath.Join(f.Lower[c.Below], c.Path), at, images.IsAs); err != nil && !merged.Moved(err) {
				return nil, nil, err
			}
		}
		if isTarget {
			hasTarget[path.Dir(c.Path)] = true
			targets = append(targets, c.Path[1:])
		} else {
			hasChange[path.Dir(c.Path)] = true
			changes = append(changes, c)
		}
	}
	slices.Reverse(changes)
	return changes, targets, nil
}
