//go:build linux

package cli

import (
	"github.com/spf13/pflag"

	"gocker/final/internal/engine"
)

// mountFlags say what is mounted in a container.
func mountFlags(f *pflag.FlagSet, opts *engine.Mounts) {
	f.StringArrayVarP(&opts.Binds, "volume", "v", nil, "bind a file or folder of the host: `/HOST:/CONTAINER[:ro]`")
	f.StringArrayVar(&opts.Tmpfs, "tmpfs", nil, "mount an empty folder in memory: `/DIR[:options]`")
	f.BoolVar(&opts.Readonly, "read-only", false, "nothing of the image can be changed")
}
