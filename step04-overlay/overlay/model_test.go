//go:build linux

package overlay

import (
	"archive/tar"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gocker/step01-pull/testenv"
)

// A model is what the merged view should be, by the rules of the image-spec's layer.md and nothing else: name -> file.
type model map[string]node

type node struct {
	typ      byte // of package tar
	mode     int64
	uid, gid int
	mtime    time.Time // compared for files only: a folder's changes with what is in it
	what     string    // content, or where a link leads
}

func (n node) String() string {
	s := fmt.Sprintf("%c %o %d:%d %q", n.typ, n.mode, n.uid, n.gid, n.what)
	if n.typ == tar.TypeReg {
		s += n.mtime.UTC().Format(" 2006-01-02 15:04:05.999999999")
	}
	return s
}

func above(name string) (folders []string) {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		folders = append(folders, dir)
	}
	return folders
}

func isIn(name, dir string) bool { return dir == "." || strings.HasPrefix(name, dir+"/") }

func (m model) remove(name string) {
	maps.DeleteFunc(m, func(n string, _ node) bool { return n == name || isIn(n, name) })
}

// A change is one layer: whiteouts and opaque markers say what it hides of those below, entries what it has itself.
type change struct {
	whiteouts, opaque []string
	entries           []testenv.Entry
}

// apply is a layer's meaning. What a layer hides is hidden in the layers below only, wherever in the archive it stands.
func (m model) apply(c change) model {
	next := maps.Clone(m)
	for _, name := range c.whiteouts {
		next.remove(name)
	}
	for _, dir := range c.opaque {
		maps.DeleteFunc(next, func(n string, _ node) bool { return isIn(n, dir) })
	}
	for _, e := range c.entries {
		name := path.Clean(e.Name)
		folders := above(name)
		slices.Reverse(folders)
		for _, dir := range folders {
			if next[dir].typ == tar.TypeDir {
				continue
			}
			next.remove(dir)
			next[dir] = node{typ: tar.TypeDir, mode: 0o755}
			if below := m[dir]; below.typ == tar.TypeDir { // hidden, and left out of the archive: it looks as it did
				next[dir] = below
			}
		}
		n := node{typ: e.Typeflag, mode: e.Mode, uid: e.Uid, gid: e.Gid, mtime: e.ModTime, what: e.Content + e.Linkname}
		if e.Typeflag == tar.TypeLink {
			n = next[e.Linkname]
		}
		if !(n.typ == tar.TypeDir && next[name].typ == tar.TypeDir) {
			next.remove(name)
		}
		next[name] = n
	}
	return next
}

// randomChange makes a layer for what is below. It leaves out what the rules say nothing about: one layer with two
// kinds of file under one name, and names that go through a link.
func randomChange(r *rand.Rand, below model) (c change) {
	kind := map[string]byte{} // what the layer itself has
	free := func(name string) bool {
		for _, dir := range above(name) {
			if k, ok := kind[dir]; ok && k != tar.TypeDir || below[dir].typ == tar.TypeSymlink {
				return false
			}
		}
		for n := range kind {
			if isIn(n, name) {
				return false
			}
		}
		return kind[name] == 0
	}
	var files []string
	for range 4 + r.IntN(14) {
		parts := make([]string, 1+r.IntN(3))
		for i := range parts {
			parts[i] = string("abcd"[r.IntN(4)])
		}
		name := path.Join(parts...)
		e := testenv.Entry{Header: tar.Header{Name: name, Mode: 0o700 | r.Int64N(0o100), Uid: r.IntN(3), Gid: r.IntN(3), ModTime: time.Unix(r.Int64N(2e9), r.Int64N(1e9))}}
		switch op := r.IntN(10); {
		case op < 4 && free(name):
			e.Typeflag, e.Content = tar.TypeReg, fmt.Sprint(r.Uint32())
			files = append(files, name)
		case op == 4 && free(name):
			e.Typeflag, e.Linkname, e.Mode = tar.TypeSymlink, "nowhere", 0o777
		case op == 5 && free(name) && len(files) > 0:
			e.Typeflag, e.Linkname = tar.TypeLink, files[r.IntN(len(files))]
		case op < 8 && kind[name] == 0 && !slices.ContainsFunc(above(name), func(dir string) bool {
			k := kind[dir]
			return k != 0 && k != tar.TypeDir || below[dir].typ == tar.TypeSymlink
		}):
			e.Typeflag = tar.TypeDir
		case op == 8 && !slices.ContainsFunc(c.opaque, func(dir string) bool { return dir == name || isIn(dir, name) }) && !throughLink(below, kind, name):
			c.whiteouts = append(c.whiteouts, name)
			continue
		case op == 9 && len(c.opaque) == 0 && below[name].typ == tar.TypeDir && (kind[name] == 0 || kind[name] == tar.TypeDir) && !throughLink(below, kind, name) &&
			!slices.ContainsFunc(c.whiteouts, func(w string) bool { return w == name || isIn(name, w) }):
			c.opaque = append(c.opaque, name)
			kind[name] = tar.TypeDir
			continue
		default:
			continue
		}
		kind[name] = e.Typeflag
		for _, dir := range above(name) {
			kind[dir] = tar.TypeDir
		}
		c.entries = append(c.entries, e)
	}
	if r.IntN(12) == 0 && len(c.opaque) == 0 {
		c.opaque = append(c.opaque, ".")
	}
	return c
}

// throughLink tells whether a name goes through a link or a file of its own layer, or a link below.
func throughLink(below model, kind map[string]byte, name string) bool {
	return slices.ContainsFunc(above(name), func(dir string) bool {
		return kind[dir] != 0 && kind[dir] != tar.TypeDir || below[dir].typ == tar.TypeSymlink
	})
}

// archive writes a layer with its whiteouts anywhere between the entries.
func (c change) archive(t testing.TB, r *rand.Rand) []byte {
	all := slices.Clone(c.entries)
	insert := func(name string) { all = slices.Insert(all, r.IntN(len(all)+1), testenv.File(name, "")) }
	for _, name := range c.whiteouts {
		insert(path.Join(path.Dir(name), ".wh."+path.Base(name)))
	}
	for _, dir := range c.opaque {
		insert(path.Join(dir, ".wh..wh..opq"))
	}
	return testenv.Tar(t, all...)
}

// merged reads what the kernel shows.
func merged(t testing.TB, root string) model {
	t.Helper()
	m := model{}
	err := filepath.WalkDir(root, func(at string, entry fs.DirEntry, err error) error {
		if err != nil || at == root {
			return err
		}
		info, err := entry.Info() // a ghost is listed by readdir(3) and not found by this lstat(2)
		if err != nil {
			return err
		}
		stat := info.Sys().(*syscall.Stat_t)
		n := node{mode: int64(stat.Mode & 0o7777), uid: int(stat.Uid), gid: int(stat.Gid), mtime: info.ModTime()}
		switch {
		case info.IsDir():
			n.typ = tar.TypeDir
		case info.Mode()&fs.ModeSymlink != 0:
			n.typ = tar.TypeSymlink
			n.what, err = os.Readlink(at)
		case info.Mode().IsRegular():
			n.typ = tar.TypeReg
			var content []byte
			content, err = os.ReadFile(at)
			n.what = string(content)
		}
		m[strings.TrimPrefix(at, root+"/")] = n
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestTheKernelMergesLayersAsTheImageSpecSays(t *testing.T) {
	testenv.NeedRoot(t)
	d := testenv.Dirs(t)
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 0))
		want, story := model{}, ""
		var tars [][]byte
		for range 3 + r.IntN(3) {
			c := randomChange(r, want)
			want = want.apply(c)
			tars = append(tars, c.archive(t, r))
			story += fmt.Sprintf("layer %d: opaque %q, whiteouts %q\n", len(tars), c.opaque, c.whiteouts)
			for _, e := range c.entries {
				story += fmt.Sprintf("  %c %s %s\n", e.Typeflag, e.Name, e.Linkname)
			}
		}
		f := mount(t, d, unpacked(t, d, testenv.Image(t, tars...)))
		got := merged(t, f.Mnt())
		names := slices.Compact(slices.Sorted(func(yield func(string) bool) {
			for name := range got {
				if !yield(name) {
					return
				}
			}
			for name := range want {
				if !yield(name) {
					return
				}
			}
		}))
		for _, name := range names {
			if g, w := got[name], want[name]; g.String() != w.String() {
				t.Errorf("seed %d: %s is %s, want %s", seed, name, g, w)
			}
		}
		if t.Failed() {
			t.Fatal(story)
		}
	}
}
