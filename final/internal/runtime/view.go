//go:build linux

package runtime

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/step03-layers/usernamespace"
	"gocker/step05-namespaces/rootfs"
)

// View has the calling thread see the files that a container would have that does not run: its root folder, and what of
// the host and of images is bound into it. container is its folder. The thread has a mount namespace of its own, and is of no use for anything else afterwards.
func View(container string, spec *specs.Spec) error {
	var mounts []specs.Mount
	for _, m := range spec.Mounts {
		if (m.Type == "bind" || m.Type == ImageType) && !isInProc(spec, m) {
			mounts = append(mounts, m)
		}
	}
	linux := &specs.Linux{}
	if usernamespace.Inside() { // else images are shown with the numbers on the disk
		linux = spec.Linux
	}
	all, err := pickUp(container, mounts, linux)
	defer func() {
		for _, b := range all {
			b.tree.Close()
		}
	}()
	if err != nil {
		return err
	}
	unix.Umask(0o022)
	root, err := rootfs.Enter(spec.Root.Path, false)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, b := range all {
		if err := b.mount(false); err != nil {
			return err
		}
	}
	return readonlyRoot(spec.Root)
}
