//go:build linux

package overlay

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"gocker/step04-overlay/check"
)

// Walk calls visit for all that is in a folder, by the names, a folder before what is in it; not for the folder itself. It
// leads through no link. Files that are removed meanwhile are left out.
//
// A container may nest folders deeper than PATH_MAX, 4096 bytes, has room for. So each is opened in the one above: file is
// the last part of name, by the descriptor of the folder that it is in. It stands for the file until visit returns.
func Walk(folder string, visit func(name, file string, info fs.FileInfo) error) error {
	// Without /proc all files in the folder would look as if they had been removed: see In.
	if err := check.Required([]check.Result{check.Proc()}); err != nil {
		return err
	}
	dir, err := os.Open(folder)
	if Moved(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return walk(dir, ".", visit)
}

// walk closes dir.
func walk(dir *os.File, name string, visit func(name, file string, info fs.FileInfo) error) error {
	defer dir.Close()
	entries, err := dir.Readdirnames(-1)
	if err != nil && !Moved(err) {
		return err
	}
	slices.Sort(entries)
	for _, entry := range entries {
		at, file := filepath.Join(name, entry), In(dir, entry)
		info, err := os.Lstat(file)
		if Moved(err) {
			continue
		}
		if err == nil {
			err = visit(at, file, info)
		}
		if err != nil {
			return err
		}
		if !info.IsDir() {
			continue
		}
		below, err := os.OpenFile(file, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if Moved(err) {
			continue
		}
		if err == nil {
			err = walk(below, at, visit)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// In is a name for what is in an open folder, however deep that is. See proc_pid_fd(5).
func In(dir *os.File, entry string) string {
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), entry)
}
