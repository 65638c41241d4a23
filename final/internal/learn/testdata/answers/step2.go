// An answer for step 2: P untar FILE DIR.
package main

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

func untar(file, dir string) (err error) {
	defer catch(&err)
	partial := must(os.MkdirTemp(dir, ".partial-")) // its files are renamed when all is well
	defer os.RemoveAll(partial)
	unpack(file, partial)
	for _, name := range must(filepath.Glob(partial + "/*")) {
		final := filepath.Join(dir, filepath.Base(name))
		check(os.RemoveAll(final))
		check(os.Rename(name, final))
	}
	return nil
}

// An ending counts the zeros at the end of what was read.
type ending struct {
	io.Reader
	zeros int
}

func (e *ending) Read(p []byte) (int, error) {
	n, err := e.Reader.Read(p)
	if rest := len(strings.TrimRight(string(p[:n]), "\x00")); rest > 0 {
		e.zeros = n - rest
	} else {
		e.zeros += n
	}
	return n, err
}

func unpack(file, dir string) {
	in := bufio.NewReader(must(os.Open(file)))
	plain := &ending{Reader: in}
	if magic, _ := in.Peek(2); string(magic) == "\x1f\x8b" {
		plain.Reader = must(gzip.NewReader(in))
	}
	root := must(os.OpenRoot(dir)) // it refuses all names that lead out of dir, also through links
	var folders []*tar.Header
	entries, r := 0, tar.NewReader(plain)
	h, err := r.Next()
	for ; err == nil; h, err = r.Next() {
		entries++
		create(root, h, r)
		if h.Typeflag == tar.TypeDir {
			folders = append(folders, h)
		}
	}
	if err != io.EOF {
		panic(err)
	}
	must(io.Copy(io.Discard, plain)) // the checksum of gzip is at the very end
	if entries == 0 || plain.zeros < 1024 {
		panic("the archive has no end mark")
	}
	for _, h := range folders {
		if info, err := root.Lstat(path.Clean(h.Name)); err == nil && info.IsDir() {
			attributes(root, h)
		}
	}
	check(fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.Type() == fs.ModeSymlink {
			if _, err := root.Stat(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s: its target: %w", name, err)
			}
		}
		return err
	}))
}

// create makes the file of one entry.
func create(root *os.Root, h *tar.Header, content io.Reader) {
	name := path.Clean(h.Name)
	check(root.MkdirAll(path.Dir(name), 0o755))
	if info, err := root.Lstat(name); err == nil && !(info.IsDir() && h.Typeflag == tar.TypeDir) {
		check(root.RemoveAll(name))
	}
	switch h.Typeflag {
	case tar.TypeDir:
		check(root.MkdirAll(name, 0o700))
		return // its attributes come at the end
	case tar.TypeSymlink:
		check(root.Symlink(h.Linkname, name))
	case tar.TypeLink:
		check(root.Link(path.Clean(h.Linkname), name))
		return
	case tar.TypeFifo, tar.TypeChar, tar.TypeBlock:
		kind := map[byte]uint32{tar.TypeFifo: unix.S_IFIFO, tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK}[h.Typeflag]
		dir := must(root.Open(path.Dir(name)))
		defer dir.Close()
		check(unix.Mknodat(int(dir.Fd()), path.Base(name), kind, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))))
	default:
		f := must(root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600))
		must(io.Copy(f, content))
		check(f.Close())
	}
	attributes(root, h)
}

// attributes sets owner, mode, xattrs and times, in this order.
func attributes(root *os.Root, h *tar.Header) {
	name := path.Clean(h.Name)
	check(root.Lchown(name, h.Uid, h.Gid))
	if h.Typeflag == tar.TypeSymlink {
		return
	}
	check(root.Chmod(name, h.FileInfo().Mode()))
	for key, value := range h.PAXRecords {
		if attr, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok {
			f := must(root.Open(name))
			defer f.Close()
			check(unix.Fsetxattr(int(f.Fd()), attr, []byte(value), 0))
		}
	}
	check(root.Chtimes(name, h.ModTime, h.ModTime))
}
