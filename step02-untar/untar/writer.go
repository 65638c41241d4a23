package untar

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"gocker/step02-untar/budget"
)

// A Writer makes files from tar entries below one folder. It never follows a path out of that folder.
type Writer struct {
	Root *os.Root
	// MakeParent makes a folder that an entry lies in and the archive does not have; nil: with mode 0755.
	MakeParent func(name string) error
	// MaxDepth is how many folders in folders may be: budget.PackageDepth, if nobody says something else.
	MaxDepth int

	names   budget.Names          // of folders
	folders map[string]attributes // which Finish gives them
	chown   bool
	last    folder
	buffer  []byte

	leftOut      int // xattrs and devices
	firstLeftOut string
}

// A folder that is open. Entries of one folder mostly come together, and the way to it is gone, and checked, once for all
// of them.
type folder struct {
	name string
	root *os.Root
	file *os.File // the same, for system calls that os.Root does not have
}

// NewWriter opens the folder. Call Finish after the last entry, and Close in any case.
func NewWriter(folder string) (*Writer, error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, err
	}
	// Only root can give files away; tar(1) run by anybody else keeps them too.
	return &Writer{Root: root, MaxDepth: budget.PackageDepth, folders: map[string]attributes{}, chown: os.Geteuid() == 0, buffer: make([]byte, 256<<10)}, nil
}

// Close releases the folder.
func (w *Writer) Close() error {
	w.last.close()
	return w.Root.Close()
}

func (f folder) close() {
	if f.root != nil {
		f.root.Close()
		f.file.Close()
	}
}

// in opens a folder, and makes it if need be. Until another one is opened, nothing takes its name away: only
// makeRoom does, and it has the folder open in which the name lies.
func (w *Writer) in(dir string) (folder, error) {
	if w.last.root != nil && w.last.name == dir {
		return w.last, nil
	}
	above, name := w.Root, dir
	if w.last.root != nil && path.Dir(dir) == w.last.name && w.last.has(path.Base(dir)) { // else each step down is one from the top
		above, name = w.last.root, path.Base(dir)
	} else if err := w.Parent(dir); err != nil {
		return folder{}, err
	}
	root, err := above.OpenRoot(name)
	if err != nil {
		return folder{}, blame(err)
	}
	file, err := root.Open(".")
	if err != nil {
		root.Close()
		return folder{}, err
	}
	w.last.close()
	w.last = folder{dir, root, file}
	return w.last, nil
}

// has tells whether a folder has one of this name; a link to one is none, as it may lead back up.
func (f folder) has(name string) bool {
	info, err := f.root.Lstat(name)
	return err == nil && info.IsDir()
}

// Clean is the function Clean, and refuses what lies too deep.
func (w *Writer) Clean(name string) (string, error) {
	name, err := Clean(name)
	if err == nil {
		err = budget.CheckDepth(name, w.MaxDepth)
	}
	return name, err
}

// Lstat looks at what has a name already.
func (w *Writer) Lstat(name string) (fs.FileInfo, error) {
	in, err := w.in(path.Dir(name))
	if err != nil {
		return nil, err
	}
	return in.root.Lstat(path.Base(name))
}

// Finish gives the folders what their entries say, the last one where there are two. Before, a folder that is closed or
// has a default ACL or a setgid bit would not take its files, or change them, and every new file changes its mtime.
func (w *Writer) Finish() error {
	for _, name := range slices.Sorted(maps.Keys(w.folders)) { // so those of one folder come together
		if err := w.setAttributes(name, w.folders[name]); err != nil {
			return err
		}
	}
	return nil
}

// LeftOut says which xattrs have no place in the file system, and which devices only root may make; "" is none.
func (w *Writer) LeftOut() string {
	if w.leftOut > 1 {
		return fmt.Sprintf("%s, and %d more", w.firstLeftOut, w.leftOut-1)
	}
	return w.firstLeftOut
}

// Write makes the file that header describes, in place of one that has its name.
func (w *Writer) Write(header *tar.Header, content io.Reader) error {
	name, err := w.Clean(header.Name)
	if err != nil {
		return err
	}
	if !isOwner(header.Uid) || !isOwner(header.Gid) {
		return fmt.Errorf("%w: no file can be that of user %d and group %d", ErrArchive, header.Uid, header.Gid)
	}
	if err := w.makeRoom(name, header.Typeflag); err != nil {
		return err
	}
	dir, err := w.in(path.Dir(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	switch header.Typeflag {
	case tar.TypeDir:
		if err = dir.root.Mkdir(base, 0o700); errors.Is(err, fs.ErrExist) {
			err = nil
		}
	case tar.TypeReg, '\x00', tar.TypeCont, tar.TypeGNUSparse:
		err = w.writeFile(dir.root, base, content)
	case tar.TypeSymlink:
		err = dir.root.Symlink(header.Linkname, base)
	case tar.TypeLink:
		return w.hardLink(name, header.Linkname) // one file under two names: mode, owner and times are there already
	case tar.TypeFifo, tar.TypeChar, tar.TypeBlock:
		err = dir.mknod(base, header)
	default:
		return fmt.Errorf("%w: unknown type %q", ErrArchive, header.Typeflag)
	}
	if errors.Is(err, errOnlyRoot) {
		w.leaveOut("device %q", name)
		return nil
	}
	if err != nil {
		return blame(err)
	}
	a := attributes{header.FileInfo().Mode(), header.Uid, header.Gid, header.PAXRecords, header.AccessTime, header.ModTime}
	if header.Typeflag == tar.TypeDir {
		w.folders[name] = a
		return w.names.Keep(name)
	}
	return w.setAttributes(name, a)
}

// Parent makes the folder dir, and those above it, where the archive has left them out.
func (w *Writer) Parent(dir string) error {
	if dir == "." {
		return nil
	}
	// This refuses the attack of docs/step02-untar.md in a layer, where links may lead anywhere: dir is "a", a link to
	// /tmp/outside, and os.Root follows none out of its folder.
	info, err := w.Root.Stat(dir)
	if err == nil && !info.IsDir() {
		return fmt.Errorf("%w: it lies in %q, which is no folder", ErrArchive, dir)
	}
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return blame(err)
	}
	// Of many folders, not each one is asked for: a look walks through all that lie above.
	parts := strings.Split(dir, "/")
	first := sort.Search(len(parts), func(n int) bool {
		_, err := w.Root.Stat(path.Join(parts[:n+1]...))
		return err != nil
	})
	for n := first; n < len(parts); n++ {
		if err := w.makeParent(path.Join(parts[:n+1]...)); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) makeParent(name string) error {
	if w.MakeParent != nil {
		return w.MakeParent(name)
	}
	return blame(w.Root.Mkdir(name, 0o755))
}

// makeRoom removes what has the name already, but for a folder that only gets new attributes.
func (w *Writer) makeRoom(name string, typ byte) error {
	in, err := w.in(path.Dir(name))
	if err != nil {
		return err
	}
	old, err := in.root.Lstat(path.Base(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return blame(err)
	}
	if typ == tar.TypeDir && old.IsDir() {
		return nil
	}
	if name == "." {
		return fmt.Errorf("%w: it would replace the folder itself", ErrArchive)
	}
	for dir, a := range w.folders {
		if dir != name && !strings.HasPrefix(dir, name+"/") {
			continue
		}
		// Behind a link they stay, and this is the last moment at which their name leads there.
		if !old.IsDir() {
			if err := w.setAttributes(dir, a); err != nil {
				return err
			}
		}
		delete(w.folders, dir)
	}
	if in, err = w.in(path.Dir(name)); err != nil { // setAttributes may have been elsewhere
		return err
	}
	return in.root.RemoveAll(path.Base(name))
}

func (w *Writer) writeFile(dir *os.Root, name string, content io.Reader) error {
	f, err := dir.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	// Without its ReadFrom, which would make a buffer of its own for every file.
	if _, err := io.CopyBuffer(struct{ io.Writer }{f}, content, w.buffer); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func (w *Writer) hardLink(name, target string) error {
	target, err := w.Clean(target)
	if err != nil {
		return fmt.Errorf("%w: it is a hard link to %q", err, target)
	}
	if info, err := w.Root.Lstat(target); err == nil && info.IsDir() {
		return fmt.Errorf("%w: it is a hard link to the folder %q", ErrArchive, target)
	}
	return blame(w.Root.Link(target, name))
}

// linksStayInside looks at all symbolic links once everything is there: where one leads depends on the others.
func (w *Writer) linksStayInside() error {
	return fs.WalkDir(w.Root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type()&fs.ModeSymlink == 0 {
			return err
		}
		target, err := w.Root.Readlink(name)
		if err != nil {
			return err
		}
		_, err = w.Root.Stat(name)
		if err = blame(err); errors.Is(err, ErrEscapes) || !filepath.IsLocal(path.Join(path.Dir(name), target)) {
			return fmt.Errorf("entry %q: %w: it links to %q", name, ErrEscapes, target)
		}
		return nil // it may lead nowhere
	})
}

// blame puts our name on the refusal of os.Root, whose own error value is not exported, and on what only an archive
// whose names contradict each other can bring about. Other errors are not the archive's fault.
func blame(err error) error {
	switch {
	case err == nil:
		return nil
	case strings.HasSuffix(err.Error(), "path escapes from parent"):
		return fmt.Errorf("%w: %w", ErrEscapes, err)
	}
	for _, fault := range []error{fs.ErrNotExist, fs.ErrExist, unix.ENOTDIR, unix.EISDIR, unix.ELOOP, unix.ENAMETOOLONG} {
		if errors.Is(err, fault) {
			return fmt.Errorf("%w: %w", ErrArchive, err)
		}
	}
	return err
}
