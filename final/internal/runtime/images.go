//go:build linux

package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/idmap"
	"gocker/final/internal/store"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/usernamespace"
	"gocker/step04-overlay/overlay"
	"gocker/step04-overlay/story"
	"gocker/step05-namespaces/byhand"
	"gocker/step05-namespaces/inside"
)

// ImageType is the type of a mount whose source is {root}/images/{image}: its layers over each other, read-only. Its options
// name= and subpath= are its reference, and the file or folder of it that is seen.
const ImageType = "image"

// ImageOptions are what an image was called, and what of it is seen: "" is all.
func ImageOptions(m specs.Mount) (name, within string) {
	for _, option := range m.Options {
		if value, ok := strings.CutPrefix(option, "name="); ok {
			name = value
		}
		if value, ok := strings.CutPrefix(option, "subpath="); ok {
			within = value
		}
	}
	return name, within
}

// imageLayers are the layers of an image that is to be mounted. container is the folder of the container.
func imageLayers(m specs.Mount, container string, linux *specs.Linux) (*overlay.FS, error) {
	images, id := filepath.Split(m.Source)
	d := dirs.Dirs{Root: filepath.Dir(filepath.Clean(images))}
	img, err := layers.Open(d, id)
	if err != nil {
		return nil, err
	}
	lower := img.Stack(d)
	if len(linux.UIDMappings) > 0 && usernamespace.Inside() {
		if lower, err = store.Mapped(d, img, linux); err != nil {
			return nil, err
		}
	}
	return &overlay.FS{Dir: container, Lower: lower}, nil
}

// imageTree is a mount of an image that nobody can reach yet.
func imageTree(m specs.Mount, container string, linux *specs.Linux) (tree *os.File, err error) {
	name, within := ImageOptions(m)
	fs, err := imageLayers(m, container, linux)
	if err != nil {
		return nil, fmt.Errorf("mount image %s: %w", name, err)
	}
	open := func() error {
		root, err := os.Open(fs.Mnt())
		if err != nil {
			return err
		}
		defer root.Close()
		// The image's links are followed as those of a container's root are.
		fd, err := unix.Openat2(int(root.Fd()), filepath.Join(".", within), &unix.OpenHow{
			Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
		})
		if errors.Is(err, unix.ENOENT) {
			return advice.Add(fmt.Errorf("it has no %q", within), "image-subpath names a file or folder of the image")
		}
		if err != nil {
			return fmt.Errorf("look for %q in it: %w", within, err)
		}
		found := os.NewFile(uintptr(fd), m.Source)
		defer found.Close()
		tree, err = inside.CloneTree(found, 0)
		return err
	}
	if len(linux.UIDMappings) == 0 || usernamespace.Inside() {
		err = fs.LayersAside(open)
	} else {
		err = idmap.Make(linux.UIDMappings, linux.GIDMappings, 0, func(_, user *os.File) error {
			fs.Over = func(folders []string) error { return idmap.Over(folders, linux, user) }
			return fs.LayersAside(open)
		})
	}
	if err != nil {
		return nil, fmt.Errorf("mount image %s: %w", name, err)
	}
	return tree, nil
}

// tellImage tells of the same. By hand it takes two mounts where a part of the image is wanted.
func tellImage(m specs.Mount, fs *overlay.FS, tell story.Story) {
	byhand.Missing(tell, m.Destination, false)
	name, within := ImageOptions(m)
	target := byhand.InRoot(m.Destination)
	why := "the layers of image " + name + ", read-only"
	if within == "" {
		fs.TellLayers(tell, why, target)
		return
	}
	all := filepath.Join(fs.Dir, "fs", "lowerdir")
	fs.TellLayers(tell, why, all)
	tell.Run(story.Inside, "… and of it one folder or file", "mount", "--bind", filepath.Join(all, within), target)
	tell.Run(story.Inside, "… the rest has no name any more", "umount", all)
}
