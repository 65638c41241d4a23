//go:build linux

package cp

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gocker/step02-untar/budget"
	"gocker/step02-untar/untar"
)

// pack writes a file, or a folder and all that is in it, as a tar archive. bare is Options.Bare.
func pack(w io.Writer, s source, name string, bare bool) error {
	p := packer{tree: s.tree, tar: tar.NewWriter(w), dev: s.dev, bare: bare, top: s.file, names: map[fileID]string{}}
	if err := p.add(s.file, name); err != nil {
		return err
	}
	return p.tar.Close()
}

type packer struct {
	tree  Tree
	tar   *tar.Writer
	dev   fileID
	bare  bool
	top   *os.File
	names map[fileID]string // the first name of a file that has several
	kept  budget.Names
}

func (p *packer) add(f *os.File, name string) error {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeSocket != 0 { // a socket means nothing without the process behind it
		return err
	}
	link := ""
	if info.Mode()&os.ModeSymlink != 0 {
		if link, err = readlink(f); err != nil {
			return err
		}
	}
	header, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	header.Name, header.Format = name, tar.FormatPAX
	header.Uid, header.Gid = p.tree.inside(header.Uid, header.Gid)
	// The host's names of users are not the container's, and the file counts, not the user who read it.
	header.Uname, header.Gname, header.AccessTime, header.ChangeTime = "", "", time.Time{}, time.Time{}
	mounted := p.bare && f != p.top && isMountPoint(f)
	switch {
	case mounted && info.IsDir():
		header.Name += "/"
		return p.tar.WriteHeader(header)
	case mounted:
		header.Size = 0
		return p.tar.WriteHeader(header)
	case info.IsDir():
		header.Name += "/"
		if err := p.tar.WriteHeader(header); err != nil {
			return err
		}
		return p.addAll(f, info, name)
	case info.Sys().(*syscall.Stat_t).Nlink > 1:
		if first, ok := p.names[idOf(info)]; ok {
			header.Typeflag, header.Linkname, header.Size = tar.TypeLink, first, 0
		} else {
			p.names[idOf(info)] = name
			if err := p.kept.Keep(name); err != nil {
				return err
			}
		}
	}
	if header.Typeflag != tar.TypeReg {
		return p.tar.WriteHeader(header)
	}
	return p.addContent(f, header)
}

func (p *packer) addContent(f *os.File, header *tar.Header) error {
	r, err := again(f)
	if err != nil {
		return err
	}
	defer r.Close()
	value := make([]byte, 64)
	if n, err := unix.Fgetxattr(int(r.Fd()), capability, value); err == nil {
		header.PAXRecords = map[string]string{xattrRecord + capability: string(value[:n])}
	}
	if err := p.tar.WriteHeader(header); err != nil {
		return err
	}
	n, err := io.Copy(p.tar, io.LimitReader(r, header.Size)) // it may grow meanwhile
	if err == nil && n < header.Size {
		err = fmt.Errorf("%q became shorter while it was read", header.Name)
	}
	return err
}

// addAll writes what is in a folder. Of those that the kernel fills there is nothing to copy.
func (p *packer) addAll(folder *os.File, info os.FileInfo, name string) error {
	if idOf(info) == p.dev || errors.Is(notTheKernels(folder, name), ErrKernelFile) {
		return nil
	}
	r, err := again(folder)
	if err != nil {
		return err
	}
	defer r.Close()
	folder.Close() // one descriptor for each folder on the way is enough
	entries, err := r.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(entries)
	for _, entry := range entries {
		f, err := openIn(r, entry)
		if errors.Is(err, os.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return err
		}
		err = p.add(f, path.Join(name, entry))
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

const (
	xattrRecord = "SCHILY.xattr."
	capability  = "security.capability" // rights of a program for any user that starts it: see capabilities(7)
)

// unpack writes an archive into a folder. New files replace old ones, and folders that are there stay.
func unpack(r io.Reader, folder *os.File, opts Options, target Tree) error {
	w, err := untar.NewWriter(byDescriptor(folder))
	if err != nil {
		return err
	}
	defer w.Close()
	w.MaxDepth = budget.AnyDepth // they are on a disk already
	for archive := tar.NewReader(r); ; {
		header, err := archive.Next()
		if err == io.EOF {
			return w.Finish()
		}
		if err != nil {
			return err
		}
		name, err := w.Clean(header.Name)
		if err == nil && (name == "." || header.Typeflag == tar.TypeXGlobalHeader) {
			continue // the folder itself stays as it is
		}
		if err == nil && target.root == nil && (header.Typeflag == tar.TypeChar || header.Typeflag == tar.TypeBlock) {
			err = ErrDevice
		}
		if err == nil {
			err = mayReplace(w, name, header.Typeflag == tar.TypeDir)
		}
		if err == nil {
			own(header, opts.Owner)
			header.Uid, header.Gid, err = target.outside(header.Uid, header.Gid)
		}
		if err == nil {
			err = w.Write(header, archive)
		}
		if err != nil {
			return fmt.Errorf("%q: %w", header.Name, err)
		}
	}
}

// mayReplace keeps a folder that is there, and links like /bin -> usr/bin, from being taken away by a folder or file of
// the same name. Docker refuses it, too.
//
// It also keeps a file that is mounted there, such as /etc/hosts. This process is not in the container's mount namespace, so the
// kernel would unmount the file, and replace it.
func mayReplace(w *untar.Writer, name string, withFolder bool) error {
	old, err := w.Lstat(name)
	switch {
	case err != nil: // what is wrong, the writer says
	case old.IsDir() != withFolder:
		return ErrReplace
	case old.Mode().IsRegular() && isMounted(w.Root, name):
		return ErrMounted
	}
	return nil
}

func isMounted(root *os.Root, name string) bool {
	f, err := root.OpenFile(name, unix.O_PATH, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return isMountPoint(f)
}

func isMountPoint(f *os.File) bool {
	var stat unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, 0, &stat)
	return err == nil && stat.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// own says whose a copy will be.
func own(header *tar.Header, owner *Owner) {
	// Not what the file systems keep for themselves.
	maps.DeleteFunc(header.PAXRecords, func(record, _ string) bool {
		return strings.HasPrefix(record, xattrRecord) && record != xattrRecord+capability
	})
	if owner == nil {
		return
	}
	header.Uid, header.Gid = owner.UID, owner.GID
	header.Mode &^= unix.S_ISUID | unix.S_ISGID
	delete(header.PAXRecords, xattrRecord+capability)
}
