//go:build linux

package overlay

import (
	"io/fs"
	"os"

	"gocker/step03-layers/merged"
	"gocker/step04-overlay/check"
)

// Walk is merged.Walk, and says what each entry is. file stands for it until visit returns.
func Walk(folder string, visit func(name, file string, info fs.FileInfo) error) error {
	// Without /proc all files in the folder would look as if they had been removed: see merged.In.
	if err := check.Required([]check.Result{check.Proc()}); err != nil {
		return err
	}
	return merged.Walk(folder, func(name string, dir *os.File, entry fs.DirEntry) error {
		file := merged.In(dir, entry.Name())
		info, err := os.Lstat(file)
		if merged.Moved(err) {
			return nil
		}
		if err != nil {
			return err
		}
		return visit(name, file, info)
	})
}
