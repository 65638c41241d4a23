//go:build linux

// Package randomimage makes images for tests: layers that nobody would write, and what they mean together.
package randomimage

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"gocker/step01-pull/shared/testenv"
)

// A generator makes random layers, entry by entry. It knows what is there at each moment, so that it makes no layer that
// is nonsense: a file in a file, a hard link to nothing.
type generator struct {
	*rand.Rand
	odd   map[oddity]bool // what this image has
	view  Model
	layer []testenv.Entry // so far
	n     int             // its number
}

// An oddity is what archives may have and what few builders write. An image has few of them: the more it has, the fewer
// programs can be compared with.
type oddity string

const (
	globalHeader  oddity = "global headers, as git archive writes"
	oldTypes      oddity = "sparse files of GNU's older format, type 7"
	twice         oddity = "two entries for one path"
	throughLink   oddity = "names through symbolic links"
	noParent      oddity = "folders that are not in the archive"
	linkBelow     oddity = "hard links to files of layers below"
	nothingHidden oddity = "whiteouts of nothing"
	lateWhiteout  oddity = "whiteouts after the entries that they name"
	opaqueRoot    oddity = "a root where all is deleted"
	beforeEpoch   oddity = "times before 1970"
)

var oddities = []oddity{globalHeader, oldTypes, twice, throughLink, noParent, linkBelow, nothingHidden, lateWhiteout, opaqueRoot, beforeEpoch}

// New returns the layers of an image, and what they mean together.
func New(seed uint64) (layers [][]testenv.Entry, want Model) {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 0)), view: newModel(), odd: map[oddity]bool{}}
	for _, o := range oddities {
		g.odd[o] = g.IntN(8) == 0
	}
	for range 2 + g.IntN(4) {
		g.n++
		g.layer = nil
		for range 3 + g.IntN(12) {
			g.step()
		}
		layers = append(layers, g.layer)
	}
	return layers, g.view
}

// Image is what the layers are as an image of the OCI's kind.
func Image(t testing.TB, layers [][]testenv.Entry) v1.Image {
	t.Helper()
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH, RootFS: v1.RootFS{Type: "layers"}})
	for _, entries := range layers {
		archive := testenv.Tar(t, entries...)
		var layer v1.Layer
		if err == nil {
			layer, err = tarball.LayerFromOpener(func() (io.ReadCloser, error) {
				return io.NopCloser(bytes.NewReader(archive)), nil
			}, tarball.WithMediaType(types.OCILayer))
		}
		if err == nil {
			img, err = mutate.AppendLayers(img, layer)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return mutate.ConfigMediaType(mutate.MediaType(img, types.OCIManifestSchema1), types.OCIConfigJSON)
}

func (g *generator) step() {
	switch at := g.name(); g.IntN(20) {
	case 0, 1, 2, 3, 4:
		g.add(at, tar.TypeReg)
	case 5, 6, 7:
		g.add(at, tar.TypeDir)
	case 8:
		g.add(at, tar.TypeSymlink)
	case 9, 10:
		g.add(at, tar.TypeLink)
	case 11:
		g.add(at, []byte{tar.TypeFifo, tar.TypeChar, tar.TypeBlock}[g.IntN(3)])
	case 12:
		g.whiteout(at)
	case 13, 14:
		g.whiteout(g.existing())
	case 15:
		g.opaque(path.Dir(g.existing()))
	case 16: // deleted and made anew, in one layer
		if at = g.existing(); g.odd[lateWhiteout] {
			g.refill(at)
			g.whiteout(at)
		} else {
			g.whiteout(at)
			g.refill(at)
		}
	case 17: // a folder is replaced by a file, and a file by a folder
		if at = g.existing(); g.IntN(2) == 0 {
			g.add(at, tar.TypeReg)
		} else {
			g.refill(at)
		}
	case 18: // updated
		if at = g.existing(); g.view[at].inode != nil {
			g.add(at, g.view[at].typ)
		}
	case 19:
		if !g.odd[globalHeader] {
			g.add(".", tar.TypeDir)
			return
		}
		g.put(testenv.Entry{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, Name: "pax_global_header", PAXRecords: map[string]string{"comment": "c059bfaa"}}})
	}
}

// refill is a folder with something in it.
func (g *generator) refill(at string) {
	g.add(at, tar.TypeDir)
	if f := g.view[at].inode; f != nil && f.typ == tar.TypeDir {
		g.add(path.Join(at, g.base()), tar.TypeReg)
	}
}

// base is a name without folders. Few are common, so that layers meet.
func (g *generator) base() string {
	if g.IntN(12) > 0 {
		return string("abcd"[g.IntN(4)])
	}
	return []string{"ünï-名前", strings.Repeat("long", 50), "a b\\c:d,e", ".whale", "..a", "-x"}[g.IntN(6)]
}

func (g *generator) name() string {
	at := g.base()
	for g.IntN(5) < 3 && strings.Count(at, "/") < 3 {
		at = path.Join(at, g.base())
	}
	return at
}

// existing is a name that is there, most of the time.
func (g *generator) existing() string {
	names := slices.Sorted(maps.Keys(g.view))
	if at := names[g.IntN(len(names))]; at != "." {
		return at
	}
	return g.name()
}

// reachable tells whether a name can be: all above it are folders, or links to some, or not there.
func (g *generator) reachable(at string) bool {
	if at == "." {
		return true
	}
	dir := path.Dir(at)
	resolved := g.view.resolve(path.Join(dir, "x")) // follows a link that dir is
	if resolved == "" || !g.reachable(dir) || !g.odd[throughLink] && path.Dir(resolved) != dir {
		return false
	}
	isLink := g.view[g.view.resolve(dir)].inode != nil
	f := g.view[path.Dir(resolved)].inode
	return f == nil && !isLink || f != nil && f.typ == tar.TypeDir
}

func (g *generator) whiteout(at string) {
	if at == "." || !g.reachable(at) {
		return
	}
	hidden := g.view[g.view.resolve(at)]
	if hidden.inode == nil && !g.odd[nothingHidden] || hidden.layer == g.n && !g.odd[lateWhiteout] {
		return
	}
	g.addParent(at)
	g.put(testenv.File(path.Join(path.Dir(at), ".wh."+path.Base(at)), ""))
	if g.odd[twice] {
		g.put(g.layer[len(g.layer)-1])
	}
}

func (g *generator) opaque(dir string) {
	at := path.Join(dir, ".wh..wh..opq")
	if dir == "." && !g.odd[opaqueRoot] || !g.reachable(at) || g.view.has(g.n, dir) && !g.odd[lateWhiteout] {
		return
	}
	g.addParent(at)
	g.put(testenv.File(at, ""))
}

// addParent adds the folder that a name is in, where the layer does not have it yet: so most builders do.
func (g *generator) addParent(at string) {
	dir := path.Dir(at)
	if !g.odd[noParent] && dir != "." && g.view[g.view.resolve(dir)].layer != g.n {
		g.add(dir, tar.TypeDir)
	}
}

// add makes an entry with random attributes.
func (g *generator) add(at string, typ byte) {
	if !g.reachable(at) || at == "." && typ != tar.TypeDir || g.view[g.view.resolve(at)].layer == g.n && !g.odd[twice] {
		return
	}
	e := testenv.Entry{Header: tar.Header{Name: at, Typeflag: typ, Mode: g.Int64N(0o10000), Format: tar.FormatPAX,
		Uid: g.number(), Gid: g.number(), ModTime: time.Unix(g.Int64N(2e9), g.Int64N(1e9))}}
	if g.odd[beforeEpoch] {
		e.ModTime = e.ModTime.AddDate(-40, 0, 0)
	}
	switch typ {
	case tar.TypeReg:
		e.Content = strings.Repeat(fmt.Sprint(g.Uint32()), g.IntN(30))
	case tar.TypeSymlink:
		e.Mode, e.Linkname = 0o777, g.target(at)
	case tar.TypeLink:
		target := g.linkable(at)
		if target == "" {
			return
		}
		e.Header = g.view[target].header // a link has no attributes of its own
		e.Name, e.Typeflag, e.Linkname, e.PAXRecords, e.Format = at, typ, g.spell(target), nil, tar.FormatPAX
	case tar.TypeChar, tar.TypeBlock:
		e.Devmajor, e.Devminor = 1+g.Int64N(500), g.Int64N(70000)
	}
	if typ == tar.TypeReg || typ == tar.TypeDir {
		e.PAXRecords = g.xattrs(typ)
	}
	g.addParent(at)
	g.form(&e)
	g.put(e)
}

func (g *generator) number() int { return []int{0, 0, 1, 1000, 65534, 3_000_000_000}[g.IntN(6)] }

// target is where a symbolic link leads: to nothing, to a folder, to that one by its absolute name, or by too many "..".
func (g *generator) target(at string) string {
	to := "nowhere/at/all"
	for name, f := range g.view { // any: the smallest name, so that a seed is always the same image
		if f.typ == tar.TypeDir && name != "." && !isIn(at, name) && (name < to || to == "nowhere/at/all") {
			to = name
		}
	}
	return []string{"nowhere", "/" + to, strings.Repeat("../", 6) + to}[g.IntN(3)]
}

// linkable is a name that a hard link may lead to; "" where there is none.
func (g *generator) linkable(at string) string {
	resolved := g.view.resolve(at)
	var names []string
	for name, f := range g.view {
		if f.typ != tar.TypeDir && name != resolved && !isIn(name, resolved) && (f.layer == g.n || g.odd[linkBelow]) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return names[g.IntN(len(names))]
}

func (g *generator) spell(at string) string { return []string{"", "", "./", "/"}[g.IntN(4)] + at }

func (g *generator) xattrs(typ byte) map[string]string {
	attrs := map[string]string{}
	if g.IntN(3) == 0 {
		attrs["SCHILY.xattr.user.note"] = fmt.Sprint("of\n\x00", g.Uint32())
	}
	if g.IntN(6) == 0 {
		attrs["SCHILY.xattr.user.other"] = "1"
	}
	if typ != tar.TypeDir && g.IntN(6) == 0 { // cap_net_raw=ep: struct vfs_cap_data of capabilities(7)
		attrs["SCHILY.xattr.security.capability"] = "\x01\x00\x00\x02\x00\x20" + strings.Repeat("\x00", 14)
	}
	return attrs
}

// form writes some entries in the older forms, which know less.
func (g *generator) form(e *testenv.Entry) {
	e.Name = g.spell(e.Name)
	if e.Typeflag == tar.TypeDir && g.IntN(2) == 0 {
		e.Name += "/"
	}
	switch g.IntN(5) {
	case 0:
		e.Format = tar.FormatGNU
		if g.odd[oldTypes] && e.Typeflag == tar.TypeReg && len(e.Name) < 100 {
			e.Hole = 1 + g.IntN(9000)
		}
	case 1:
		isASCII := !strings.ContainsFunc(e.Name+e.Linkname, func(r rune) bool { return r > 127 })
		if isASCII && len(e.Name) <= 100 && len(e.Linkname) <= 100 && max(e.Uid, e.Gid) < 1<<21 && e.ModTime.Unix() >= 0 {
			e.Format = tar.FormatUSTAR
			if g.odd[oldTypes] && e.Typeflag == tar.TypeReg {
				e.Typeflag = tar.TypeCont
			}
		}
	}
	if e.Format != tar.FormatPAX {
		e.PAXRecords, e.ModTime = nil, e.ModTime.Truncate(time.Second)
	}
}

func (g *generator) put(e testenv.Entry) {
	g.layer = append(g.layer, e)
	g.view.apply(g.n, e)
}
