//go:build linux

// Package merged reads folders that lie over each other as overlayfs shows them, without mounting anything.
//
//	stack := merged.Stack{lowest, …, topmost}
//	i, info := stack.Find("etc/motd")       // which folder it comes from, and what it is there
//	name, err := stack.Resolve("bin/sh")    // "usr/bin/dash": where links lead to inside
//
// A folder says of a lower one's name that it is deleted by a whiteout, a character device 0/0 of that name. It hides all
// that lower ones have in a folder by the xattr trusted.overlay.opaque = y: the folder is opaque. In a user namespace this is user.overlay.opaque.
//
// See https://docs.kernel.org/filesystems/overlayfs.html.
package merged

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"gocker/step03-layers/usernamespace"
)

// A Stack is folders that lie over each other as overlayfs lays them, the lowest first.
type Stack []string

// OpaqueXattr with the value "y" makes a folder opaque. Only root may write trusted.*, and a user namespace's root is another: so
// overlayfs has two names for it. See "User xattr" in the kernel's document.
func OpaqueXattr() string {
	if usernamespace.Inside() {
		return "user.overlay.opaque"
	}
	return "trusted.overlay.opaque"
}

// Find returns the index of the layer that a name of the merged view comes from, and what it is there; -1 where the
// merged view has no such name. No link is followed.
func (s Stack) Find(name string) (int, fs.FileInfo) {
	for i := len(s) - 1; i >= 0; i-- {
		info, hidden := Lstat(s[i], name)
		if info != nil {
			return i, info
		}
		if hidden {
			return -1, nil
		}
	}
	return -1, nil
}

// maxSteps is how many folders Resolve goes through: links of links are short to write, and long to walk. As many as a layer may
// have in each other must fit.
const maxSteps = 5000

// Resolve follows all links of a name, as a process whose root folder is the merged view: links to absolute names
// begin at that root, and ".." ends there. A name that does not exist stays as it is. See path_resolution(7).
func (s Stack) Resolve(name string) (string, error) {
	resolved, rest, links := ".", strings.Split(name, "/"), 0
	missing := "" // a folder that is not there, so nothing in it is
	for steps := 0; len(rest) > 0; steps++ {
		if steps > maxSteps {
			return "", fmt.Errorf("%q: %w", name, unix.ENAMETOOLONG)
		}
		next := rest[0]
		rest = rest[1:]
		at := filepath.Join("/", resolved, next)[1:]
		if next == "" || missing != "" && strings.HasPrefix(at, missing) {
			resolved = at
			continue
		}
		i, info := s.Find(at)
		if i < 0 {
			missing = at + "/"
		}
		if i < 0 || info.Mode()&fs.ModeSymlink == 0 {
			resolved = at
			continue
		}
		if links++; links > 40 {
			return "", fmt.Errorf("%q: %w", name, unix.ELOOP)
		}
		link, done := At(s[i], at)
		target, err := os.Readlink(link)
		done()
		if err != nil {
			return "", err
		}
		if filepath.IsAbs(target) {
			resolved = "."
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	return filepath.Clean(resolved), nil
}

// Lstat looks for name in one layer alone. Where it is not, hidden says that the layer also hides it in those below:
// by a whiteout on the way, an opaque folder, or a file where the name needs a folder.
func Lstat(layer, name string) (info fs.FileInfo, hidden bool) {
	name = filepath.Clean(name)
	deep := len(name) > deepName
	if deep {
		if info := lstatDeep(layer, name); info != nil {
			return info, false
		}
	}
	var open *os.File // the folder at, if that is deep
	defer func() { open.Close() }()
	at, parts := layer, strings.Split(name, "/")
	for i, part := range parts {
		at = filepath.Join(at, part)
		info, err := os.Lstat(at)
		if err != nil {
			return nil, hidden
		}
		if IsWhiteout(info) || i < len(parts)-1 && !info.IsDir() {
			return nil, true
		}
		if i == len(parts)-1 {
			return info, false
		}
		hidden = hidden || IsOpaque(at)
		if deep {
			below, err := os.OpenFile(at, unix.O_PATH|unix.O_NOFOLLOW, 0)
			if err != nil {
				return nil, hidden
			}
			open.Close()
			open, at = below, In(below, "")
		}
	}
	return nil, hidden
}

// Names returns what a folder of the merged view has in it, sorted.
func (s Stack) Names(dir string) []string {
	var names []string
	for _, layer := range s {
		if info, _ := Lstat(layer, dir); info == nil || !info.IsDir() {
			continue
		}
		folder, done := At(layer, dir)
		entries, _ := os.ReadDir(folder) // a layer that cannot be read adds nothing
		done()
		for _, e := range entries {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	return slices.DeleteFunc(names, func(name string) bool {
		i, _ := s.Find(filepath.Join(dir, name))
		return i < 0
	})
}

// IsWhiteout tells whether a file of a layer says that the name is deleted: a character device 0/0.
func IsWhiteout(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.Mode()&fs.ModeCharDevice != 0 && stat.Rdev == 0
}

// IsOpaque tells whether a folder of a layer hides all that layers below have in it.
func IsOpaque(dir string) bool {
	value := make([]byte, 1)
	n, err := unix.Lgetxattr(dir, OpaqueXattr(), value)
	return err == nil && n == 1 && value[0] == 'y'
}
