package lesson

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"gocker/step01-pull/pull"
	"gocker/step01-pull/shared/dirs"
)

// FindPackage returns the {image} that pull.Save has saved ref as and locks its folder, until the caller closes lock; where tmp has
// none, image is "".
func FindPackage(d dirs.Dirs, ref pull.Reference) (image string, lock *os.File, err error) {
	files, err := dirs.Glob(d.AllTmp(), "*/reference")
	if err != nil {
		return "", nil, err
	}
	for _, file := range files {
		image := filepath.Base(filepath.Dir(file))
		if !dirs.IsImage(image) || !isSavedAs(file, ref) {
			continue
		}
		lock, err := dirs.Lock(d.Tmp(image))
		if err != nil {
			return "", nil, err
		}
		// The process that held the lock before may have unpacked the image and removed the folder, or pulled another name to it.
		if isSavedAs(file, ref) {
			return image, lock, nil
		}
		os.Remove(d.Tmp(image)) // where Lock has made it anew it is empty, else it stays
		lock.Close()
	}
	return "", nil, nil
}

func isSavedAs(file string, ref pull.Reference) bool {
	saved, err := os.ReadFile(file)
	return err == nil && strings.TrimSpace(string(saved)) == ref.String()
}

// Package is FindPackage, and where there is nothing to find, it is pulled; say is told.
func Package(ctx context.Context, d dirs.Dirs, ref pull.Reference, say func(format string, args ...any)) (string, *os.File, error) {
	image, lock, err := FindPackage(d, ref)
	if err != nil || image != "" {
		return image, lock, err
	}
	say("There is no package.tar of %s yet: pulling it, as step01-pull does", ref)
	img, err := pull.Image(ctx, ref, pull.HostPlatform())
	if err != nil {
		return "", nil, err
	}
	return pull.Save(d, ref, img, pull.Newer)
}
