// An answer for step 3: P layers DIR ROOT.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"
)

func layers(dir, root string) (err error) {
	defer catch(&err)
	images := filepath.Join(root, "images")
	var manifest tarball.Manifest
	raw := must(os.ReadFile(filepath.Join(dir, "manifest.json")))
	check(json.Unmarshal(raw, &manifest))
	rawConfig := must(os.ReadFile(filepath.Join(dir, manifest[0].Config)))
	config := must(v1.ParseConfigFile(bytes.NewReader(rawConfig)))
	hash := fmt.Sprintf("%x", sha256.Sum256(rawConfig))
	partial := filepath.Join(images, ".partial-"+hash)
	check(os.MkdirAll(partial, 0o755))
	defer os.RemoveAll(partial)
	var below []string
	for i, file := range manifest[0].Layers {
		name := filepath.Join(partial, path.Base(file)[:12])
		for n := 2; os.Mkdir(name, 0o755) != nil; n++ { // the same layer again
			name = fmt.Sprintf("%s-%d", name, n)
		}
		fs := filepath.Join(name, "fs")
		check(os.Mkdir(fs, 0o755))
		if diffID := unpackLayer(filepath.Join(dir, file), fs, below); diffID != config.RootFS.DiffIDs[i].String() {
			panic(file + " is not the layer that the config names")
		}
		below = append(below, fs)
	}
	check(os.WriteFile(filepath.Join(partial, "manifest.json"), raw, 0o644))
	check(os.WriteFile(filepath.Join(partial, hash+".json"), rawConfig, 0o644))
	check(os.RemoveAll(filepath.Join(images, hash[:12])))
	check(os.Rename(partial, filepath.Join(images, hash[:12])))
	ref := manifest[0].RepoTags[0]
	colon := strings.LastIndex(ref, ":") // a registry may have a port
	name, tag := ref[:colon], ref[colon+1:]
	names := map[string]map[string]string{}
	if old, err := os.ReadFile(filepath.Join(images, "images.json")); err == nil {
		check(json.Unmarshal(old, &names))
	}
	if names[name] == nil {
		names[name] = map[string]string{}
	}
	names[name][tag] = hash[:12]
	check(os.WriteFile(filepath.Join(images, "images.json"), must(json.Marshal(names)), 0o644))
	return nil
}

// unpackLayer makes a layer's files, and returns the hash of the plain archive. What is deferred is done when all files are
// there, the last first: so folders get their times after their content.
func unpackLayer(layer, fs string, below []string) string {
	hash := sha256.New()
	plain := io.TeeReader(must(gzip.NewReader(must(os.Open(layer)))), hash)
	root := must(os.OpenRoot(fs))
	for r := tar.NewReader(plain); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		check(err)
		name := path.Clean(h.Name)
		parents(root, path.Dir(name), below)
		base, isWhiteout := strings.CutPrefix(path.Base(name), ".wh.")
		hidden := filepath.Join(fs, path.Dir(name), base) // what a whiteout hides
		switch {
		case base == ".wh..opq":
			defer func() { check(setOpaque(filepath.Dir(hidden))) }()
		case isWhiteout:
			defer hide(hidden)
		case h.Typeflag == tar.TypeDir:
			check(root.MkdirAll(name, 0o700))
			defer finish(root, name, h)
		case h.Typeflag == tar.TypeSymlink:
			check(errors.Join(root.Symlink(h.Linkname, name), root.Lchown(name, h.Uid, h.Gid)))
		case h.Typeflag == tar.TypeLink:
			link(root, path.Clean(h.Linkname), name, below)
		default:
			check(root.WriteFile(name, must(io.ReadAll(r)), 0o600))
			finish(root, name, h)
		}
	}
	must(io.Copy(io.Discard, plain))
	return fmt.Sprintf("sha256:%x", hash.Sum(nil))
}

// hide hides what layers below have by this name. A folder of this layer that has it hides what is in theirs.
func hide(name string) {
	if unix.Mknod(name, unix.S_IFCHR, 0) == unix.EEXIST {
		setOpaque(name) // a file needs none
	}
}

// setOpaque hides what layers below have in a folder. Only the machine's root writes trusted.*, so overlayfs has two names for it.
func setOpaque(folder string) error {
	err := unix.Setxattr(folder, "trusted.overlay.opaque", []byte("y"), 0)
	if err == unix.EPERM {
		err = unix.Setxattr(folder, "user.overlay.opaque", []byte("y"), 0)
	}
	return err
}

func finish(root *os.Root, name string, h *tar.Header) {
	check(root.Lchown(name, h.Uid, h.Gid)) // it clears setuid, so the mode comes after it
	check(root.Chmod(name, h.FileInfo().Mode()))
	check(root.Chtimes(name, h.ModTime, h.ModTime))
}

// parents makes the folders that a layer leaves out, as they are below.
func parents(root *os.Root, dir string, below []string) {
	if _, err := root.Stat(dir); err == nil {
		return
	}
	parents(root, path.Dir(dir), below)
	check(root.Mkdir(dir, 0o755))
	for _, layer := range below {
		exec.Command("sh", "-c", `[ -d "$0" ] && chown --reference="$0" "$1" && chmod --reference="$0" "$1"`,
			filepath.Join(layer, dir), filepath.Join(root.Name(), dir)).Run() // a layer without it says nothing
	}
}

// link makes a hard link. A file of a layer below is copied: two layers are two folders.
func link(root *os.Root, target, name string, below []string) {
	err := root.Link(target, name)
	for i := len(below) - 1; err != nil && i >= 0; i-- {
		err = exec.Command("cp", "-a", filepath.Join(below[i], target), filepath.Join(root.Name(), name)).Run()
	}
	check(err)
}
