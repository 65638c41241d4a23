//go:build linux

package cli

import (
	"github.com/spf13/pflag"

	"gocker/final/internal/engine"
)

// mountFlags say what is mounted in a container.
func mountFlags(f *pflag.FlagSet, opts *engine.Mounts) {
	f.StringArrayVarP(&opts.Volumes, "volume", "v", nil, "mount a folder of the host, a volume by its name, or a new one: `[SOURCE:]/DIR[:ro]`")
	f.StringArrayVar(&opts.Mounts, "mount", nil, "the same in words: `type=bind|volume|tmpfs,source=…,target=/DIR[,readonly]`")
	f.StringArrayVar(&opts.Tmpfs, "tmpfs", nil, "mount an empty folder in memory: `/DIR[:options]`")
	f.StringArrayVar(&opts.From, "volumes-from", nil, "what a container has of volumes and of the host: `CONTAINER[:ro]`")
	f.StringVar(&opts.ShmSize, "shm-size", "", "`size` of /dev/shm: bytes, with b, k, m or g (default 64m)")
	f.BoolVar(&opts.Readonly, "read-only", false, "nothing of the image can be changed")
}
