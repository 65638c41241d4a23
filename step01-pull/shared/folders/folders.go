// Package folders says below which two folders gocker keeps everything. Package dirs has the names below them.
//
// It imports little, so a program may ask before most of its packages have begun: see final/internal/enter.
package folders

import (
	"cmp"
	"os"
	"path"
	"strconv"
	"syscall"
)

// Default are the folders of this user: GOCKER_ROOT and GOCKER_RUN where they are set, else below /var for root, and below the
// XDG base directories for everybody else, whose home this is. Root must survive a reboot.
// See https://specifications.freedesktop.org/basedir-spec/latest/.
func Default(home string) (root, run string) {
	root, run = "/var/lib/gocker", "/var/run/gocker"
	if os.Geteuid() != 0 {
		root = path.Join(cmp.Or(os.Getenv("XDG_DATA_HOME"), path.Join(home, ".local", "share")), "gocker")
		// A login has /run/user/{uid}, and says so in XDG_RUNTIME_DIR. cron and su(1) may say nothing, or leave another user's. What
		// is below root is at least the user's.
		below := path.Join(root, "run")
		for _, folder := range []string{"/run/user/" + strconv.Itoa(os.Geteuid()), os.Getenv("XDG_RUNTIME_DIR")} {
			if info, err := os.Stat(folder); err == nil && info.Sys().(*syscall.Stat_t).Uid == uint32(os.Geteuid()) {
				below = folder
			}
		}
		run = path.Join(below, "gocker")
	}
	return cmp.Or(os.Getenv("GOCKER_ROOT"), root), cmp.Or(os.Getenv("GOCKER_RUN"), run)
}
