//go:build linux

package namespaces

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// View has the calling thread see the files that a container would have that does not run: its root folder, and what of
// the host is bound into it. The thread has a mount namespace of its own, and is of no use for anything else afterwards.
func View(spec *specs.Spec) error {
	var mounts []specs.Mount
	for _, m := range spec.Mounts {
		if m.Type == "bind" && !inProc(spec, m) {
			mounts = append(mounts, m)
		}
	}
	r := &rootfs{}
	err := r.enter(&specs.Spec{Root: spec.Root, Mounts: mounts, Linux: &specs.Linux{}})
	r.close()
	if err == nil && spec.Root.Readonly {
		if err = unix.Mount("", "/", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			err = fmt.Errorf("make the root read-only: %w", err)
		}
	}
	return err
}
