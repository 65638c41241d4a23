//go:build linux

package store

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"gocker/step03-layers/changeset"
	"gocker/step03-layers/merged"
)

// ErrPack says that a folder has something in it that no layer can say.
var ErrPack = errors.New("cannot be written as a layer")

// Pack is the way back: it writes what overlayfs has in a folder, an upperdir or the fs of a layer, as a layer's tar
// archive. Whiteouts and opaque folders are spelled as archives do, overlayfs's own xattrs are left out. Names are sorted,
// whiteouts come before what is beside them, so the same files give the same bytes. Sockets are left out: they mean
// nothing without the process behind them; so are the names without, "etc/hosts", and all below them.
//
// Where somebody changes the files meanwhile, what is removed is left out, and a file has the size that it had when it was looked
// at: it is cut off, or filled up with zeros, as GNU tar does.
func Pack(w io.Writer, folder string, without ...string) error {
	return PackAs(w, folder, func(*tar.Header) error { return nil }, without...)
}

// PackAs is Pack for files whose owners in the archive are others: own changes them in each header.
func PackAs(w io.Writer, folder string, own func(*tar.Header) error, without ...string) error {
	p := packer{tar: tar.NewWriter(w), own: own, without: without, names: map[[2]uint64]string{}}
	if err := p.add(".", folder); err != nil {
		return err
	}
	return p.tar.Close()
}

type packer struct {
	tar     *tar.Writer
	own     func(*tar.Header) error
	without []string
	names   map[[2]uint64]string // device and inode -> the first name of a file that has several
}

// add writes an entry, and for a folder all that is in it. The entry's name may be longer than a system call takes; file
// is where it is found.
func (p *packer) add(name, file string) error {
	info, err := os.Lstat(file)
	gone := func(err error) bool { return errors.Is(err, fs.ErrNotExist) && name != "." }
	if gone(err) {
		return nil
	}
	if err != nil || info.Mode()&fs.ModeSocket != 0 {
		return err
	}
	if strings.HasPrefix(path.Base(name), changeset.WhiteoutPrefix) {
		return fmt.Errorf("%w: %q would be taken for a whiteout", ErrPack, name)
	}
	header, err := merged.Header(file)
	if err == nil {
		err = foreign(name, file)
	}
	if err == nil {
		err = p.own(header)
	}
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	header.Name = name
	header.AccessTime, header.ChangeTime = time.Time{}, time.Time{} // they are of reading, not of the file
	header.Format = tar.FormatPAX
	if info.IsDir() {
		header.Name += "/"
		if err := p.tar.WriteHeader(header); err != nil {
			return err
		}
		return p.addAll(name, file)
	}
	stat := info.Sys().(*syscall.Stat_t)
	inode := [2]uint64{uint64(stat.Dev), stat.Ino}
	if first, ok := p.names[inode]; ok {
		header.Typeflag, header.Linkname, header.Size = tar.TypeLink, first, 0
	} else if stat.Nlink > 1 {
		p.names[inode] = name
	}
	if err := p.tar.WriteHeader(header); err != nil {
		return err
	}
	if header.Typeflag != tar.TypeReg {
		return nil
	}
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0) // if it has become a fifo meanwhile, that does not stop us
	var n int64
	if err == nil {
		defer f.Close()
		n, err = io.Copy(p.tar, io.LimitReader(f, header.Size))
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		_, err = io.CopyN(p.tar, zeros{}, header.Size-n)
	}
	return err
}

// zeros is /dev/zero.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// addAll writes what is in a folder: "Implementations SHOULD generate layers such that the whiteout files appear before
// sibling directory entries" (layer.md).
func (p *packer) addAll(dir, file string) error {
	open, err := os.OpenFile(file, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) && dir != "." {
		return nil
	}
	if err != nil {
		return err
	}
	defer open.Close()
	entries, err := open.Readdirnames(-1)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // removed since it was opened
		return err
	}
	slices.Sort(entries)
	if merged.IsOpaque(file) {
		if err := p.whiteout(path.Join(dir, changeset.WhiteoutOpaque)); err != nil {
			return err
		}
	}
	var rest []string
	for _, e := range entries {
		info, err := os.Lstat(merged.In(open, e))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !merged.IsWhiteout(info) {
			rest = append(rest, e)
		} else if err := p.whiteout(path.Join(dir, changeset.WhiteoutPrefix+e)); err != nil {
			return err
		}
	}
	for _, e := range rest {
		name := path.Join(dir, e)
		if slices.Contains(p.without, name) {
			continue
		}
		if err := p.add(name, merged.In(open, e)); err != nil {
			return err
		}
	}
	return nil
}

func (p *packer) whiteout(name string) error {
	return p.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatPAX})
}

// foreign fails for a file of which overlayfs has left the content or the place to another one: a kernel that is told so,
// or built so, does that with metacopy=on and redirect_dir=on. See "Redirecting directories" and "Metadata only copy up"
// in overlayfs's document.
func foreign(name, file string) error {
	attrs, err := merged.Xattrs(file)
	for _, attr := range []string{"trusted.overlay.metacopy", "trusted.overlay.redirect"} {
		if _, ok := attrs[attr]; ok {
			return fmt.Errorf("%w: %q has the xattr %s, so its content is elsewhere", ErrPack, name, attr)
		}
	}
	return err
}
