// Package folders says below which two folders gocker keeps everything. Package dirs has the names below them.
//
// It imports little, so a program may ask before most of its packages have begun: see final/internal/enter.
package folders

import (
	"cmp"
	"os"
	"path"
	"syscall"
)

// Default are the folders of this user: GOCKER_ROOT and GOCKER_RUN where they are set, else below /var for root, and below the
// XDG base directories for everybody else, whose home this is. Root must survive a reboot.
// See https://specifications.freedesktop.org/basedir-spec/latest/.
func Default(home string) (root, run string) {
	root, run = "/var/lib/gocker", "/var/run/gocker"
	if os.Geteuid() != 0 {
		root = path.Join(cmp.Or(os.Getenv("XDG_DATA_HOME"), path.Join(home, ".local", "share")), "gocker")
		// XDG_RUNTIME_DIR has no default of its own; what is below root is at least the user's. And su(1) may leave another's.
		below := os.Getenv("XDG_RUNTIME_DIR")
		if info, err := os.Stat(below); err != nil || info.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()) {
			below = path.Join(root, "run")
		}
		run = path.Join(below, "gocker")
	}
	return cmp.Or(os.Getenv("GOCKER_ROOT"), root), cmp.Or(os.Getenv("GOCKER_RUN"), run)
}
