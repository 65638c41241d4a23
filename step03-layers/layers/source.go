//go:build linux

package layers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
	"gocker/step02-untar/budget"
)

// A Source is where an image comes from.
type Source struct {
	Manifest tarball.Descriptor // what manifest.json will say
	Config   []byte
	Blobs    []Blob        // the layers, the lowest first
	Limits   budget.Limits // of all layers together
}

// A Blob is one layer on its way in. Open is called at most once, and not for a layer that is here already; ctx is done
// when another layer has failed.
type Blob struct {
	Digest string // "sha256:…" of the bytes as they are sent; "" where nobody has promised one
	Open   func(ctx context.Context) (Stream, error)
}

// A Stream is read once, from its first byte to its last. Link gives its bytes, once all have been read, a name on disk.
type Stream interface {
	io.ReadCloser
	Link(name string) error
}

// Read reads the manifest and the config of the package that step 2 has unpacked in {root}/tmp/{image}. The caller holds
// that folder's lock.
func Read(d dirs.Dirs, image string) (Source, error) {
	tmp := d.Tmp(image)
	manifest, _, config, err := ReadManifest(tmp, image)
	if err != nil {
		return Source{}, advice.Add(err, "remove %q and pull the image again", tmp)
	}
	source := Source{Manifest: manifest, Config: config}
	for _, name := range manifest.Layers {
		blob := Packaged(tmp, name)
		if digest, ok := strings.CutSuffix(name, ".tar.gz"); ok && len(digest) == 64 { // as crane.SaveLegacy names it
			blob.Digest = "sha256:" + digest
		}
		source.Blobs = append(source.Blobs, blob)
	}
	return source, nil
}

// Packaged is a layer of an archive that was unpacked into dir. Digest is for the caller to add, if the archive has one.
func Packaged(dir, name string) Blob {
	return Blob{Open: func(context.Context) (Stream, error) {
		f, err := openInside(dir, name)
		return File{f}, err
	}}
}

// A File is a layer that lies in a file.
type File struct{ *os.File }

// Link names the open file itself: the name by which it was opened may be a link, and lead elsewhere by now. Its owner
// and mode were the archive's choice; a user who may write there later could change the layer.
func (f File) Link(name string) error {
	if err := errors.Join(f.Chown(os.Geteuid(), os.Getegid()), f.Chmod(0o644)); err != nil {
		return err
	}
	err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
	if err != nil {
		return fmt.Errorf("link %q to %q: %w", f.Name(), name, err)
	}
	return nil
}
