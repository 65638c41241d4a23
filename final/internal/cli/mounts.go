//go:build linux

package cli

import (
	"github.com/spf13/pflag"

	"gocker/final/internal/describe"
)

// mountFlags say what is mounted in a container.
func mountFlags(f *pflag.FlagSet, opts *describe.Mounts) {
	f.VarP((*list)(&opts.Volumes), "volume", "v", "mount a folder of the host, a volume by its name, or a new volume: `[SOURCE:]/DIR[:ro,U]`; with U all in there will belong to the container's user")
	f.Var((*list)(&opts.Mounts), "mount", "mount something, with a word for each part: `type=TYPE,source=…,target=/DIR[,readonly]`; TYPE is bind, volume, tmpfs or image")
	f.Var((*list)(&opts.Tmpfs), "tmpfs", "mount an empty folder in memory: `/DIR[:options]`")
	f.Var((*list)(&opts.From), "volumes-from", "mount the volumes and host folders of another container: `CONTAINER[:ro]`")
	f.StringVar(&opts.ShmSize, "shm-size", "", "`size` of /dev/shm: bytes, with b, k, m or g (default 64m)")
	f.BoolVar(&opts.Readonly, "read-only", false, "the container cannot change the image's files")
}
