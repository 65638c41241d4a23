//go:build linux

package learn

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"gocker/final/internal/learn/cage"
	"gocker/step01-pull/shared/archive"
	"gocker/step01-pull/shared/tree"
	"gocker/step02-untar/attack"
	"gocker/step02-untar/untar"
	"gocker/step03-layers/usernamespace"
)

// untarCases are about "P untar FILE DIR". DIR is to be what package untar makes of the same archive.
func untarCases() ([]kase, error) {
	file, dir, symlink, link := archive.File, archive.Dir, archive.Symlink, archive.Link
	with := func(e archive.Entry, mode int64, uid, gid int) archive.Entry {
		e.Mode, e.Uid, e.Gid = mode, uid, gid
		return e
	}
	at := func(e archive.Entry, when time.Time) archive.Entry {
		e.ModTime = when
		return e
	}
	recent, old := time.Date(2021, 11, 24, 20, 19, 40, 123456789, time.UTC), time.Date(1999, 7, 20, 20, 17, 40, 0, time.UTC)

	cases := []kase{
		unpacks("file", []string{tree.Content}, file("hello", "hello, world\n"), file("empty", "")),
		unpacks("folder", []string{tree.Content}, dir("d"), file("d/a", "1"), file("left/out/b", "2")),
		unpacks("symlink", []string{tree.Content}, dir("d"), file("b", "1"), symlink("d/l", "../b"), symlink("m", "d/l"), symlink("nowhere", "c/d")),
		{"gzip", func(t *trial) error {
			plain, err := archive.Tar(file("a", strings.Repeat("content\n", 5000)))
			if err != nil {
				return err
			}
			return t.unpack(compressed(plain), tree.Content)
		}},
		unpacks("last", []string{tree.Content}, file("a", "1"), file("a", "2"), file("b", "old"), symlink("s", "b"), file("s", "new"),
			file("f", "1"), dir("f"), file("f/x", "2"), dir("g"), file("g/x", "1"), file("g", "2")),
		unpacks("hard-link", []string{tree.Content, tree.Same}, file("a", "1"), dir("d"), link("d/b", "a"), link("d/c", "./d/b")),
		unpacks("mode", []string{tree.Mode}, with(file("shared", ""), 0o666, 0, 0), with(file("none", ""), 0, 0, 0), with(dir("all"), 0o777, 0, 0),
			with(dir("sticky"), 0o1777, 0, 0), with(dir("closed"), 0, 0, 0), file("closed/file", "1")),
		needsIDs(unpacks("owner", []string{tree.Owner}, with(file("a", ""), 0o644, 1000, 100), with(dir("d"), 0o755, 7, 8), with(symlink("s", "a"), 0o777, 5, 6))),
		needsIDs(unpacks("setuid", []string{tree.Mode, tree.Owner}, with(file("su", "1"), 0o4755, 1000, 100), with(file("sg", "1"), 0o2755, 0, 42))),
		unpacks("time", []string{tree.MTime}, at(file("a", "1"), recent), at(file("old", ""), old)),
		unpacks("folder-time", []string{tree.MTime}, at(dir("d"), old), at(file("d/a", "1"), recent), at(dir("d/e"), recent), at(file("d/e/f", ""), old)),
		unpacks("device", []string{tree.Content, tree.Mode}, devices()...),
		needsIDs(unpacks("xattr", []string{tree.Xattrs}, capable(with(file("ping", "1"), 0o755, 1000, 0)))),
	}
	attacks, err := attack.All()
	for _, group := range []struct {
		name string
		kind attack.Kind
	}{{"dotdot", attack.Name}, {"absolute", attack.Absolute}, {"through", attack.Through}, {"swapped", attack.Swapped}, {"link-out", attack.Link}, {"hard-link-out", attack.HardLink}, {"cut", attack.Cut}, {"no-archive", attack.NoArchive}} {
		cases = append(cases, kase{group.name, func(t *trial) error {
			for _, a := range attacks {
				if a.Kind != group.kind || !plainOrGzip(a.Archive) {
					continue
				}
				if err := t.refuse(a); err != nil {
					return err
				}
			}
			return nil
		}})
	}
	return cases, err
}

// devices are a fifo and devices. Root of a user namespace makes none but 0/0, which is no device.
func devices() []archive.Entry {
	node := func(typ byte, name string, major, minor int64) archive.Entry {
		return archive.Entry{Header: tar.Header{Typeflag: typ, Name: name, Mode: 0o640, Devmajor: major, Devminor: minor}}
	}
	fifo := node(tar.TypeFifo, "fifo", 0, 0)
	if usernamespace.Inside() {
		return []archive.Entry{fifo, node(tar.TypeChar, "nothing", 0, 0)}
	}
	return []archive.Entry{fifo, node(tar.TypeChar, "null", 1, 3), node(tar.TypeBlock, "block", 259, 0xabcde)}
}

// needsIDs is a case with files of several users.
func needsIDs(c kase) kase {
	return kase{c.name, func(t *trial) error {
		if usernamespace.Alone() {
			return &skipped{say("you have no other user to give a file to. As root: %s", "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER")}
		}
		return c.try(t)
	}}
}

// capable gives a file the capability cap_net_raw=ep: see capabilities(7) and struct vfs_cap_data.
func capable(e archive.Entry) archive.Entry {
	e.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20" + strings.Repeat("\x00", 14)}
	return e
}

// plainOrGzip tells whether an archive has a compression that every learner's program reads.
func plainOrGzip(b []byte) bool {
	for _, magic := range []string{"\x28\xb5\x2f\xfd", "\xfd7zXZ", "BZh"} {
		if bytes.HasPrefix(b, []byte(magic)) {
			return false
		}
	}
	return true
}

func compressed(plain []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(plain) // a Buffer takes all
	w.Close()
	return b.Bytes()
}

// unpacks is a case in which these facts of the files are compared.
func unpacks(name string, facts []string, entries ...archive.Entry) kase {
	return kase{name, func(t *trial) error {
		plain, err := archive.Tar(entries...)
		if err != nil {
			return err
		}
		return t.unpack(plain, facts...)
	}}
}

// Where the archive is, and where it is unpacked to, in Dir. What is beside or above that is not the program's business.
const packed, to = "package.tar", "work/to"

func (t *trial) unpack(archive []byte, facts ...string) error {
	if err := t.write(packed, archive); err != nil {
		return err
	}
	want := t.Path("aside", "want")
	for _, folder := range []string{want, t.at(to)} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	if err := untar.Extract(t.at(packed), want); err != nil {
		return err
	}
	top, err := os.Stat(want)
	if err != nil {
		return err
	}
	t.input = list(archive)
	if _, err := t.succeed("untar", cage.Dir+"/"+packed, cage.Dir+"/"+to); err != nil {
		return err
	}
	// No archive here says when the folder itself was changed.
	if err := os.Chtimes(t.at(to), top.ModTime(), top.ModTime()); err != nil {
		return err
	}
	return differ(want, t.at(to), facts...)
}

// refuse has the program unpack an attack, beside folders that it must not touch.
func (t *trial) refuse(a attack.Attack) error {
	if err := os.RemoveAll(t.at("work")); err != nil {
		return err
	}
	for name, content := range map[string]string{
		"work/outside/secret": "keep out\n", "outside/secret": "keep out\n", to + "/old/file": "was here before\n", packed: string(a.Archive),
	} {
		if err := t.write(name, []byte(content)); err != nil {
			return err
		}
	}
	before, err := t.snapshot("")
	if err != nil {
		return err
	}
	t.ran, t.input = nil, append([]string{say(a.What) + ":"}, list(a.Archive)...)
	o, err := t.run("untar", cage.Dir+"/"+packed, cage.Dir+"/"+to)
	if err != nil {
		return err
	}
	after, err := t.snapshot("")
	if err != nil {
		return err
	}
	elsewhere, err := t.elsewhere()
	if err != nil {
		return err
	}
	refused := say("an error, a status that is not 0, and no change of any file")
	changed := changes(before, after)
	switch {
	case elsewhere != "":
		return failed("", refused, say("it wrote outside of DIR:")+"\n"+elsewhere)
	case o.Status == 0 && changed == "" && o.Stderr != "":
		return failed("status-0", refused, say("status 0, and it changed nothing"))
	case o.Status == 0 && changed == "":
		return failed("", refused, say("status 0, and it changed nothing"))
	case o.Status == 0:
		return failed("", refused, say("status %d, and now:", 0)+"\n"+changed)
	case strings.Contains(changed, "/outside"):
		return failed("", refused, say("it wrote outside of DIR:")+"\n"+changed)
	case changed != "":
		return failed("half", refused, say("status %d, and now:", o.Status)+"\n"+changed)
	case strings.TrimSpace(o.Stderr) == "":
		return failed("silent", say("a message on standard error"), say("status %d, and no word", o.Status))
	}
	return nil
}

// list is what tar -tv would say of an archive, as far as it can be read.
func list(archive []byte) (lines []string) {
	var in io.Reader = bytes.NewReader(archive)
	if z, err := gzip.NewReader(bytes.NewReader(archive)); err == nil {
		in = z
	}
	for r := tar.NewReader(in); ; {
		h, err := r.Next()
		if err == io.EOF {
			return lines
		}
		if err != nil {
			return append(lines, say("… and then: %v", err))
		}
		if len(h.Name) > 60 {
			h.Name = h.Name[:60] + "…"
		}
		line := fmt.Sprintf("%s %d:%d %s", h.FileInfo().Mode(), h.Uid, h.Gid, h.Name)
		switch h.Typeflag {
		case tar.TypeSymlink:
			line += " -> " + h.Linkname
		case tar.TypeLink:
			line += " " + say("link to %s", h.Linkname)
		}
		lines = append(lines, line)
	}
}
