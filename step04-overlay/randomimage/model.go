//go:build linux

package randomimage

import (
	"archive/tar"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"gocker/step01-pull/shared/testenv"
	"gocker/step01-pull/shared/tree"
)

// A Model is what the merged view should be: name -> inode, "." is the root. It knows image-spec's layer.md and nothing
// of overlayfs: "applied" means that a layer is extracted like any archive over those below, but for its whiteouts.
type Model map[string]dirent

// A dirent is one of a file's names.
type dirent struct {
	*inode
	layer int // that wrote it, 1 is the lowest
}

// An inode is a file, which may have many names. An empty string is what the specification leaves open.
type inode struct {
	typ                             byte // of package tar
	mode, owner, mtime, what, attrs string
	header                          tar.Header // that made it
	cut                             bool       // a layer has hidden one of its names from those below
}

// folder is one that the archives need and do not have.
func folder() *inode { return &inode{typ: tar.TypeDir, mode: "0755", owner: "0:0"} }

func newModel() Model { return Model{".": {folder(), 0}} }

func isIn(name, dir string) bool {
	return name != "." && (dir == "." || strings.HasPrefix(name, dir+"/"))
}

// apply is the meaning of one entry of layer n.
func (m Model) apply(n int, e testenv.Entry) {
	if e.Typeflag == tar.TypeXGlobalHeader {
		return
	}
	at := m.resolve(e.Name)
	dir, base := path.Split(at)
	dir = path.Clean(dir)
	hidden, isWhiteout := strings.CutPrefix(base, ".wh.")
	switch {
	case hidden == ".wh..opq":
		m.hide(n, func(name string) bool { return isIn(name, dir) })
	case isWhiteout:
		hidden = path.Join(dir, hidden)
		m.hide(n, func(name string) bool { return name == hidden || isIn(name, hidden) })
	default:
		f := &inode{typ: e.Typeflag, attrs: xattrs(e)}
		if e.Typeflag == tar.TypeLink {
			f = m[m.resolve(e.Linkname)].inode
		} else {
			f.describe(e)
		}
		m.makeFolders(n, dir)
		if old := m[at]; old.inode == nil || old.typ != tar.TypeDir || e.Typeflag != tar.TypeDir {
			m.remove(n, at)
		}
		m[at] = dirent{f, n}
	}
}

func xattrs(e testenv.Entry) string {
	attrs := map[string]string{}
	for key, value := range e.PAXRecords {
		attrs[strings.TrimPrefix(key, "SCHILY.xattr.")] = value
	}
	return tree.ShortXattrs(attrs)
}

func (f *inode) describe(e testenv.Entry) {
	f.header = e.Header
	f.mode, f.owner = fmt.Sprintf("%04o", e.Mode), fmt.Sprintf("%d:%d", e.Uid, e.Gid)
	f.mtime = fmt.Sprintf("%d.%09d", e.ModTime.Unix(), e.ModTime.Nanosecond())
	switch e.Typeflag {
	case tar.TypeReg, tar.TypeCont:
		hole := strings.Repeat("\x00", e.Hole)
		f.typ, f.what = tar.TypeReg, tree.ShortContent([]byte(hole+e.Content+hole))
	case tar.TypeSymlink:
		f.what = e.Linkname
	case tar.TypeChar, tar.TypeBlock:
		f.what = fmt.Sprintf("%d,%d", e.Devmajor, e.Devminor)
	}
}

// makeFolders makes a folder and those above it, where they are missing. Those that are there stay as they are.
func (m Model) makeFolders(n int, dir string) {
	if m[dir].inode != nil {
		return
	}
	m.makeFolders(n, path.Dir(dir))
	f := folder()
	if parent := m[path.Dir(dir)]; parent.mode == "" || strings.Contains("2367", parent.mode[:1]) {
		f.mode, f.owner = "", "" // in a setgid folder mkdir(2) makes another: some programs take it as it is
	}
	m[dir] = dirent{f, n}
}

// remove takes a name away, and all that is in it.
func (m Model) remove(n int, at string) {
	for name, f := range m {
		if name == at || isIn(name, at) {
			f.cut = f.cut || f.layer < n
			delete(m, name)
		}
	}
}

// hide is a whiteout: layers before n lose these names. What layer n has itself stays, wherever in the archive the
// whiteout stands; a folder which that lies in is a new one then.
func (m Model) hide(n int, hidden func(name string) bool) {
	for at, f := range m {
		switch {
		case f.layer == n || !hidden(at):
		case m.has(n, at):
			m[at] = dirent{folder(), n}
		default:
			f.cut = true
			delete(m, at)
		}
	}
}

// has tells whether something of layer n is in a folder.
func (m Model) has(n int, dir string) bool {
	for name, f := range m {
		if f.layer == n && isIn(name, dir) {
			return true
		}
	}
	return false
}

// resolve follows the links that a name goes through, but not the last one, and does not leave the root. Of a name that
// goes in circles it makes "".
func (m Model) resolve(name string) string {
	links := 0
	at, rest := ".", strings.Split(path.Clean("/" + name)[1:], "/")
	for i := 0; i < len(rest); i++ {
		at = path.Join("/", at, rest[i])[1:]
		if at == "" {
			at = "."
		}
		f := m[at].inode
		if f == nil || f.typ != tar.TypeSymlink || i == len(rest)-1 {
			continue
		}
		if links++; links > 40 {
			return ""
		}
		if !path.IsAbs(f.what) {
			f = &inode{what: path.Join(path.Dir(at), f.what)}
		}
		at, rest, i = ".", append(strings.Split(path.Clean("/" + f.what)[1:], "/"), rest[i+1:]...), -1
	}
	return at
}

// Facts is the model in the words of tree.ReadFacts.
func (m Model) Facts() tree.Facts {
	facts, names := tree.Facts{}, map[*inode][]string{}
	for name, f := range m {
		facts[tree.Fact{Name: name, What: tree.Type}] = map[byte]string{tar.TypeReg: "-", tar.TypeDir: "d",
			tar.TypeSymlink: "l", tar.TypeChar: "c", tar.TypeBlock: "b", tar.TypeFifo: "p"}[f.typ]
		facts[tree.Fact{Name: name, What: tree.Xattrs}] = f.attrs
		for what, known := range map[string]string{tree.Mode: f.mode, tree.Owner: f.owner, tree.MTime: f.mtime} {
			if known != "" {
				facts[tree.Fact{Name: name, What: what}] = known
			}
		}
		if f.typ == tar.TypeDir {
			continue
		}
		names[f.inode] = append(names[f.inode], name)
		if f.typ != tar.TypeFifo {
			facts[tree.Fact{Name: name, What: tree.Content}] = f.what
		}
	}
	for f, all := range names {
		facts.AddNames(all)
		for _, name := range all {
			// The kernel counts the names in the layer, also one that a layer above has hidden.
			if !f.cut {
				facts[tree.Fact{Name: name, What: tree.Links}] = fmt.Sprint(len(all))
			}
		}
	}
	return facts
}

// Differences says what of a tree is not as the model wants it; "" is nothing.
func Differences(got, want tree.Facts) string {
	var all []string
	for fact, w := range want {
		if g, ok := got[fact]; !ok {
			all = append(all, fmt.Sprintf("%q has no %s, want %s\n", fact.Name, fact.What, w))
		} else if g != w {
			all = append(all, fmt.Sprintf("%q: %s is %s, want %s\n", fact.Name, fact.What, g, w))
		}
	}
	for fact, g := range got {
		_, wanted := want[tree.Fact{Name: fact.Name, What: tree.Type}]
		if fact.What == tree.Ghost || fact.What == tree.Type && !wanted {
			all = append(all, fmt.Sprintf("%q: %s %s is there, want nothing\n", fact.Name, fact.What, g))
		}
	}
	slices.Sort(all)
	return strings.Join(all, "")
}

// HiddenButThere looks for names that the layers have and the merged view should not: lstat(2) may find what
// readdir(3) does not list.
func HiddenButThere(root string, layers [][]testenv.Entry, want Model) string {
	found := map[string]bool{}
	for _, entries := range layers {
		for _, e := range entries {
			at := want.resolve(e.Name)
			if _, err := os.Lstat(path.Join(root, at)); err == nil && at != "" && want[at].inode == nil && want[path.Dir(at)].inode != nil {
				found[fmt.Sprintf("%q: lstat finds it, want nothing\n", at)] = true
			}
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(found)), "")
}
