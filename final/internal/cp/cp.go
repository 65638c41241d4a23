//go:build linux

// Package cp copies files between the host and a root folder that nobody vouches for: a container's, which may run and
// change it meanwhile.
//
//	root, err := os.OpenFile("/proc/4711/root", unix.O_PATH, 0)
//	err = cp.Copy(cp.Inside(root), "/etc/hosts", cp.Host, "hosts", cp.Options{})
//
// The name and the place of a copy are as docker cp has them: see Copy. The files flow as a tar archive from
// the reading side to the writing side; "docker cp" with - in place of a name is one half of it.
//
// A name in the root folder is resolved by openat2(2) with RESOLVE_IN_ROOT: its links begin at that root, whatever changes
// meanwhile, and no name is resolved twice. From there on all goes by descriptors. Files are looked at before they are
// opened (O_PATH), so no fifo is waited for and no device does anything.
package cp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gocker/final/internal/idmap"
	"gocker/step02-untar/decompress"
)

// These errors say what is wrong with the two names.
var (
	ErrNoFolder   = errors.New("no such folder")
	ErrOntoFile   = errors.New("a folder cannot be copied onto a file")
	ErrNotFolder  = errors.New("not a folder")
	ErrReplace    = errors.New("a folder and something else have the same name, and neither replaces the other")
	ErrMounted    = errors.New("a file of the host is mounted there, and not replaced")
	ErrKernelFile = errors.New("it is the kernel's, and no file to copy")
	ErrDevice     = errors.New("a container's device is not made on the host")
)

// A Tree is where names begin.
type Tree struct {
	root  *os.File
	users *specs.Linux // with the maps of its user namespace, if it has one
}

// Host is the tree of this process: names are as usual.
var Host Tree

// Inside is a tree whose names never lead out of the folder root, whatever links say.
func Inside(root *os.File) Tree { return InsideFor(root, &specs.Linux{}) }

// InsideFor is Inside for the files of a container that runs, and has a user namespace with the maps of linux. In copies and archives
// owners have the numbers that they have in there. If files are copied to there, the caller is a thread of idmap.MakeFiles.
func InsideFor(root *os.File, linux *specs.Linux) Tree { return Tree{root, linux} }

// inside are owners of the tree as its own users know them.
func (t Tree) inside(uid, gid int) (int, int) {
	if t.users == nil {
		return uid, gid
	}
	return int(idmap.Inside(t.users.UIDMappings, uint32(uid))), int(idmap.Inside(t.users.GIDMappings, uint32(gid)))
}

// outside are owners that its users know, as the host has them.
func (t Tree) outside(uid, gid int) (int, int, error) {
	// Of an id that has more than 32 bits, or is negative, the writer says that no file can be its.
	if t.users == nil || uint64(uid) > math.MaxUint32 || uint64(gid) > math.MaxUint32 {
		return uid, gid, nil
	}
	hostUID, err := idmap.Host(t.users.UIDMappings, uint32(uid))
	hostGID, gidErr := idmap.Host(t.users.GIDMappings, uint32(gid))
	return int(hostUID), int(hostGID), errors.Join(err, gidErr)
}

func (t Tree) open(name string, flags int) (*os.File, error) {
	at, how := unix.AT_FDCWD, unix.OpenHow{Flags: uint64(flags) | unix.O_CLOEXEC}
	if t.root != nil {
		at, how.Resolve = int(t.root.Fd()), unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS
	}
	for {
		fd, err := unix.Openat2(at, name, &how)
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), name), nil
		case unix.EINTR, unix.EAGAIN: // EAGAIN: something on the way was renamed, so nobody knows where ".." leads
			continue
		}
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
}

// Options of a copy.
type Options struct {
	Follow bool   // a source that is a link stands for what it leads to
	Owner  *Owner // of all that is made; nil: the same numbers as of the source
	Bare   bool   // of what is mounted in the source only the empty folder or file: for Pack
}

// An Owner is the user that gets the copies. Setuid and setgid bits and file capabilities are not for him: they are dropped, as
// chown(2) drops them.
type Owner struct{ UID, GID int }

// Copy copies a file, or a folder with all that is in it.
//
//	to is            a file is copied            a folder is copied
//	a folder         into it                     into it; only what is in it, if from ends in "/."
//	a file           in its place                ErrOntoFile
//	not there        to that name                to that name
//	not there, "x/"  ErrNoFolder                 to that name
//
// The folder that to lies in must be there. Links in the names are followed, but for a link that is the source itself.
func Copy(source Tree, from string, target Tree, to string, opts Options) error {
	s, err := source.find(from, opts.Follow)
	if err != nil {
		return err
	}
	defer s.file.Close()
	folder, name, err := target.place(to, s)
	if err != nil {
		return err
	}
	defer folder.Close()
	r, w := io.Pipe()
	go func() {
		buffered := bufio.NewWriterSize(w, 256<<10)
		err := pack(buffered, s, name, false)
		w.CloseWithError(errors.Join(err, buffered.Flush()))
	}()
	defer r.Close() // so that the other one ends, too
	return unpack(r, folder, opts, target)
}

// Pack writes what Copy would read as a tar archive.
func Pack(w io.Writer, source Tree, from string, opts Options) error {
	s, err := source.find(from, opts.Follow)
	if err != nil {
		return err
	}
	defer s.file.Close()
	return pack(w, s, s.name, opts.Bare)
}

// Unpack writes what is in a tar archive into a folder. It may be compressed, as docker takes it.
func Unpack(r io.Reader, target Tree, to string, opts Options) error {
	folder, err := target.open(to, unix.O_PATH|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOTDIR) {
		return fmt.Errorf("%q: %w", to, ErrNotFolder)
	}
	if err != nil {
		return err
	}
	defer folder.Close()
	if err := notTheKernels(folder, to); err != nil {
		return err
	}
	plain := decompress.Reader(r)
	defer plain.Close()
	return unpack(plain, folder, opts, target)
}

// A source is what is to be copied.
type source struct {
	tree  Tree
	file  *os.File // O_PATH
	name  string   // of the copy; "." if only what is in it is to be copied
	isDir bool
	dev   fileID // the tree's /dev, if something is mounted there; of that only the folder is copied
}

func (t Tree) find(name string, follow bool) (source, error) {
	flags := unix.O_PATH
	if wantsFolder(name) {
		flags |= unix.O_DIRECTORY
	} else if !follow {
		flags |= unix.O_NOFOLLOW
	}
	f, err := t.open(name, flags)
	if err != nil {
		return source{}, err
	}
	info, err := f.Stat()
	if err == nil {
		err = notTheKernels(f, name)
	}
	if err != nil {
		f.Close()
		return source{}, err
	}
	s := source{tree: t, file: f, name: path.Base(name), isDir: info.IsDir()}
	if t.root != nil {
		s.dev = t.devices()
	}
	if s.name == "/" || s.name == ".." || strings.HasSuffix(name, "/.") {
		s.name = "."
	}
	return s, nil
}

// A fileID is which file it is, whatever it is called.
type fileID struct{ device, inode uint64 }

func idOf(info os.FileInfo) fileID {
	stat := info.Sys().(*syscall.Stat_t)
	return fileID{uint64(stat.Dev), stat.Ino}
}

// devices is a container's /dev: its files were made by the container's runtime, and mean something only there.
func (t Tree) devices() fileID {
	dev, err := t.open("/dev", unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return fileID{} // none
	}
	defer dev.Close()
	root, rootErr := t.root.Stat()
	info, err := dev.Stat()
	if err != nil || rootErr != nil || idOf(info).device == idOf(root).device {
		return fileID{}
	}
	return idOf(info)
}

// wantsFolder tells whether a name can only be a folder's.
func wantsFolder(name string) bool {
	last := name[strings.LastIndexByte(name, '/')+1:]
	return last == "" || last == "." || last == ".."
}

// place is the folder that a copy of s is put in if it shall be to, and its name there.
func (t Tree) place(to string, s source) (folder *os.File, name string, err error) {
	at, wanted := to, false
	for range 40 { // links of links: the kernel's own limit, see path_resolution(7)
		f, err := t.open(at, unix.O_PATH|unix.O_DIRECTORY)
		if err == nil {
			if err := notTheKernels(f, to); err != nil {
				f.Close()
				return nil, "", err
			}
			return f, s.name, nil
		}
		wanted = wanted || wantsFolder(at)
		at = strings.TrimRight(at, "/")
		dir, base := path.Split(at)
		if base == "." || base == ".." {
			return nil, "", err
		}
		if folder, err = t.open(cmpOr(dir, "."), unix.O_PATH|unix.O_DIRECTORY); err != nil {
			return nil, "", fmt.Errorf("%q: %w: %w", to, ErrNoFolder, err)
		}
		link, exists, err := look(folder, base)
		switch {
		case err != nil:
		case link != "":
			folder.Close()
			if at = link; !path.IsAbs(link) {
				at = dir + link // not cleaned: what ".." leaves may be a link, too
			}
			continue
		case exists && s.isDir:
			err = fmt.Errorf("%q: %w", to, ErrOntoFile)
		case exists && wanted:
			err = fmt.Errorf("%q: %w", to, ErrNotFolder)
		case !exists && wanted && !s.isDir:
			err = fmt.Errorf("%q: %w", to, ErrNoFolder)
		default:
			err = notTheKernels(folder, to)
		}
		if err != nil {
			folder.Close()
			return nil, "", err
		}
		return folder, base, nil
	}
	return nil, "", &os.PathError{Op: "open", Path: to, Err: unix.ELOOP}
}

func cmpOr(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// look says what a name in a folder is: where it leads to if it is a link, and whether it is there at all.
func look(folder *os.File, name string) (link string, exists bool, err error) {
	f, err := openIn(folder, name)
	if errors.Is(err, os.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && info.Mode()&os.ModeSymlink != 0 {
		link, err = readlink(f)
	}
	return link, true, err
}

// openIn opens a name of a folder to look at it. It is not followed.
func openIn(folder *os.File, name string) (*os.File, error) {
	fd, err := unix.Openat(int(folder.Fd()), name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// readlink reads the link that a descriptor stands for.
func readlink(f *os.File) (string, error) {
	target := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(int(f.Fd()), "", target)
	if err != nil {
		return "", &os.PathError{Op: "readlink", Path: f.Name(), Err: err}
	}
	return string(target[:n]), nil
}

// again opens what a descriptor stands for once more, to read it.
func again(f *os.File) (*os.File, error) {
	r, err := os.Open(byDescriptor(f))
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: f.Name(), Err: errors.Unwrap(err)}
	}
	return r, nil
}

func byDescriptor(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// kernels are file systems whose files are no files: reading or writing one does something.
var kernels = []int64{
	unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEVPTS_SUPER_MAGIC,
	unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC,
}

func notTheKernels(f *os.File, name string) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return fmt.Errorf("statfs %q: %w", name, err)
	}
	if slices.Contains(kernels, int64(fs.Type)) {
		return fmt.Errorf("%q: %w", name, ErrKernelFile)
	}
	return nil
}
