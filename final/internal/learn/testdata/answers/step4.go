// An answer for step 4: P mount ROOT IMAGE DIR, and P umount DIR.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

func mount(root, image, dir string) (err error) {
	defer catch(&err)
	dir = must(filepath.Abs(dir))
	images := filepath.Join(root, "images")
	var names map[string]map[string]string
	check(json.Unmarshal(must(os.ReadFile(filepath.Join(images, "images.json"))), &names))
	colon := max(0, strings.LastIndex(image, ":")) // a registry may have a port
	name, tag := image[:colon], strings.TrimPrefix(image[colon:], ":")
	id, ok := names[name][tag]
	if !ok {
		panic("no such image: " + image)
	}
	// The kernel reads one page of options. Names that begin at this folder are short, so many layers fit.
	check(os.Chdir(filepath.Join(images, id)))
	var manifest []struct{ Layers []string }
	check(json.Unmarshal(must(os.ReadFile("manifest.json")), &manifest))
	var lower []string // topmost first
	taken := map[string]bool{}
	for _, layer := range manifest[0].Layers {
		first := path.Base(layer)[:12]
		folder := first
		for n := 2; taken[folder]; n++ {
			folder = fmt.Sprintf("%s-%d", first, n)
		}
		taken[folder] = true
		lower = append(lower, folder+"/fs")
	}
	slices.Reverse(lower)
	for _, folder := range []string{"mnt", "upperdir", "workdir"} {
		check(os.MkdirAll(filepath.Join(dir, folder), 0o755))
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s",
		strings.Join(lower, ":"), escape(filepath.Join(dir, "upperdir")), escape(filepath.Join(dir, "workdir")))
	check(unix.Mount("overlay", filepath.Join(dir, "mnt"), "overlay", unix.MS_NODEV, options))
	return nil
}

func umount(dir string) error { return unix.Unmount(filepath.Join(dir, "mnt"), 0) }

// escape protects the characters that part options and folders from each other.
func escape(name string) string {
	return strings.NewReplacer(`\`, `\\`, `:`, `\:`, `,`, `\,`).Replace(name)
}
