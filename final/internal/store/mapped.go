//go:build linux

package store

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/idmap"
	"gocker/step01-pull/shared/dirs"
	"gocker/step02-untar/budget"
	"gocker/step03-layers/changeset"
	"gocker/step03-layers/layers"
	"gocker/step03-layers/merged"
)

// Root shows layers to a container that has users of its own by idmapped mounts. A user who is not root cannot: the kernel asks for
// rights over the whole file system of the disk. So there each layer is copied once for each map, with the owners that the files have
// by that map, as podman does it:
//
//	{root}/layers/{chainID}/{map}/fs     {map} is what MapName says
//
// The copy goes with the layer. It is made in a Partial: after a kill there is none, or all of it.

// MapName names the maps of a container.
func MapName(linux *specs.Linux) string {
	sum := sha256.Sum256(fmt.Append(nil, linux.UIDMappings, linux.GIDMappings))
	return "mapped-" + hex.EncodeToString(sum[:6])
}

// MappedStack is the copies of an image's layers, by the name of the maps, the lowest first.
func MappedStack(d dirs.Dirs, img layers.Image, name string) merged.Stack {
	stack := img.Stack(d)
	for i, fs := range stack {
		stack[i] = filepath.Join(filepath.Dir(fs), name, "fs")
	}
	return stack
}

// DiskBytes is what a layer has on disk: its files, as often as they are there, and the layer as it was sent.
func DiskBytes(d dirs.Dirs, layer layers.Layer) int64 {
	copies, _ := filepath.Glob(filepath.Join(filepath.Dir(layers.Files(d, layer.ChainID)), "mapped-*"))
	return layer.Size + layer.Files*int64(1+len(copies))
}

// Mapped makes the copies that are not there yet. The caller has the image in use.
func Mapped(d dirs.Dirs, img layers.Image, linux *specs.Linux) (merged.Stack, error) {
	stack := MappedStack(d, img, MapName(linux))
	for i, from := range img.Stack(d) {
		if _, err := os.Lstat(stack[i]); err == nil {
			continue
		}
		if err := copyMapped(d, from, stack[:i:i], filepath.Dir(stack[i]), linux); err != nil {
			return nil, fmt.Errorf("copy layer %s with the owners of a user namespace: %w", img.Layers[i].ChainID, err)
		}
	}
	return stack, nil
}

// copyMapped makes one copy, as a layer is packed and unpacked: so whiteouts stay whiteouts.
func copyMapped(d dirs.Dirs, from string, below merged.Stack, to string, linux *specs.Linux) error {
	partial, err := dirs.NewPartial(d.Layers())
	if err != nil {
		return err
	}
	defer partial.Discard()
	r, w := io.Pipe()
	defer r.Close()
	go func() { w.CloseWithError(PackAs(w, from, OwnOutside(linux))) }()
	fs := filepath.Join(partial.Path, "fs")
	if _, err := changeset.Unpack(r, fs, func() (merged.Stack, error) { return below, nil }, budget.None.Budget()); err != nil {
		return err
	}
	folder, err := os.Open(fs)
	if err != nil {
		return err
	}
	defer folder.Close()
	if err := unix.Syncfs(int(folder.Fd())); err != nil {
		return fmt.Errorf("sync %q: %w", fs, err)
	}
	if err := partial.Finish(to); !errors.Is(err, os.ErrExist) { // else another process was first
		return err
	}
	return nil
}

// OwnOutside gives the files of an archive, whose owners are those of the container, the owners that they have outside.
func OwnOutside(linux *specs.Linux) func(*tar.Header) error {
	return func(h *tar.Header) error {
		uid, err := idmap.Host(linux.UIDMappings, uint32(h.Uid))
		gid, groupErr := idmap.Host(linux.GIDMappings, uint32(h.Gid))
		h.Uid, h.Gid = int(uid), int(gid)
		return errors.Join(err, groupErr)
	}
}

// OwnInside is the way back.
func OwnInside(linux *specs.Linux) func(*tar.Header) error {
	return func(h *tar.Header) error {
		h.Uid, h.Gid = int(idmap.Inside(linux.UIDMappings, uint32(h.Uid))), int(idmap.Inside(linux.GIDMappings, uint32(h.Gid)))
		return nil
	}
}
