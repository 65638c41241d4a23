//go:build linux

// Package changeset makes a folder for overlayfs of one layer's tar archive.
//
//	c, err := changeset.Unpack(stream, "layers/{chainID}/fs", below, budget)
//
// A layer is a changeset: what it adds and updates is in it as files, what it deletes as whiteouts. Tar archives
// spell a whiteout as an empty file ".wh.name", overlayfs as a character device 0/0 named "name"; a folder whose
// lower contents are all hidden is ".wh..wh..opq" in the one and the xattr trusted.overlay.opaque in the other.
//
// Whether a whiteout hides anything, and what mode a folder has that the archive left out, depends on the layers
// below. So they are asked for, but only when that is needed: see Unpack.
//
// See https://github.com/opencontainers/image-spec/blob/main/layer.md.
package changeset

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"gocker/step02-untar/budget"
	"gocker/step02-untar/decompress"
	"gocker/step02-untar/untar"
	"gocker/step03-layers/merged"
)

// A Changeset is what the bytes of a layer say of it. Digests are "sha256:" and 64 hex digits.
type Changeset struct {
	Digest string // of the layer as it was sent, compressed
	DiffID string // of the tar archive inside
	Size   int64  // bytes, as it was sent
	Files  int64  // bytes of all its files, unpacked

	// Entries, compared with the layers below.
	Added, Updated, Deleted int

	// LeftOut says which xattrs the file system has no place for, and which devices only root may make. It is known only of a layer that was just unpacked.
	LeftOut string `json:"-"`
}

// Unpack unpacks a layer as it was sent into a new folder, and returns all that its bytes say. Where the archive in it is
// damaged, which is an untar.ErrArchive, that is the digest. below returns the folders of the layers below, the lowest
// first; it is called when one of them must be looked at, and may wait until all are there.
func Unpack(stream io.Reader, to string, below func() (merged.Stack, error), limit *budget.Budget) (c Changeset, err error) {
	if err := os.Mkdir(to, 0o755); err != nil {
		return Changeset{}, err
	}
	sent := &counter{r: stream, hash: sha256.New()}
	u := unpacker{to: to, wait: below, counted: &c, limit: limit}
	diffID, err := u.unpack(sent)
	if err != nil && !errors.Is(err, untar.ErrArchive) {
		return Changeset{}, err
	}
	if _, err := io.Copy(io.Discard, sent); err != nil {
		return Changeset{}, err
	}
	c.Digest, c.DiffID, c.Size = "sha256:"+hex.EncodeToString(sent.hash.Sum(nil)), diffID, sent.n
	return c, err
}

// counter knows how much was read, and its digest.
type counter struct {
	r    io.Reader
	hash hash.Hash
	n    int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.hash.Write(p[:n])
	c.n += int64(n)
	return n, err
}

// An unpacker turns one layer's tar archive into a folder for overlayfs. Layers may be unpacked side by side: most entries
// say all there is to know about a file, and in which folder of this same layer it lies. Where one does not, and at the
// end, wait is called: it returns the layers below once they are complete.
type unpacker struct {
	to      string // the folder
	wait    func() (merged.Stack, error)
	counted *Changeset // where entries are counted
	limit   *budget.Budget

	w         *untar.Writer
	below     merged.Stack      // nil until it was waited for
	whiteouts map[string]bool   // names that the layer deletes
	devices   map[string]bool   // that only root may make, and that are not there
	names     budget.Names      // of these
	opaque    map[string]bool   // folders in which it deletes all
	top       bool              // it says what its top folder looks like
	leftOut   map[string]bool   // folders that it needs and does not have
	links     map[fileID]linked // files of layers below that it links to
	aufs      map[string]string // files of aufs's own that it links to: see aufsLinks

	lastDir, lastDirResolved string
}

// unpack reads the archive to its end and returns its diffID.
func (u *unpacker) unpack(archive io.Reader) (diffID string, err error) {
	plain := decompress.Reader(u.limit.In(archive))
	defer plain.Close()
	hash := sha256.New()
	tee := io.TeeReader(u.limit.Out(plain), hash)

	u.w, err = untar.NewWriter(u.to)
	if err != nil {
		return "", err
	}
	defer u.w.Close()
	u.w.MakeParent, u.w.MaxDepth = u.makeParent, budget.LayerDepth
	u.whiteouts, u.opaque, u.leftOut, u.devices = map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	u.links, u.aufs = map[fileID]linked{}, map[string]string{}
	if err := untar.Each(tee, u.entry); err != nil {
		return "", err
	}
	// An archive ends before its bytes do: zeros follow, and they are part of the diffID.
	if _, err := io.Copy(io.Discard, tee); errors.Is(err, budget.ErrLimit) {
		return "", err
	} else if err != nil {
		return "", fmt.Errorf("%w: %w", untar.ErrArchive, err)
	}
	// The rest depends on the layers below, and on the whole of this one.
	for _, do := range []func() error{u.waitForBelow, u.count, u.copyRoot, u.markOpaque, u.writeWhiteouts, u.shareLinks, u.copyFolders, u.w.Finish, u.keepDevices} {
		if err := do(); err != nil {
			return "", err
		}
	}
	u.counted.LeftOut = u.w.LeftOut()
	return "sha256:" + hex.EncodeToString(hash.Sum(nil)), nil
}

// waitForBelow is called before below is looked at.
func (u *unpacker) waitForBelow() (err error) {
	if u.below == nil {
		u.below, err = u.wait()
	}
	return err
}
