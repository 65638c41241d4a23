// Package disk counts what lies on it.
package disk

import (
	"io/fs"
	"os"
)

// Bytes is what all files below path have together; what cannot be read has none. A container may change names meanwhile, and
// they do not lead out.
func Bytes(path string) (sum int64) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return 0
	}
	defer root.Close()
	fs.WalkDir(root.FS(), ".", func(_ string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := entry.Info(); err == nil && info.Mode().IsRegular() {
			sum += info.Size()
		}
		return nil
	})
	return sum
}
