//go:build linux

package hostile

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"gocker/step01-pull/shared/testenv"
)

var (
	file, dir, symlink, link = testenv.File, testenv.Dir, testenv.Symlink, testenv.Link
)

// with changes an entry's header.
func with(e testenv.Entry, change func(h *tar.Header)) testenv.Entry {
	change(&e.Header)
	return e
}

func device(name string, typ byte, major, minor int64) testenv.Entry {
	return testenv.Entry{Header: tar.Header{Typeflag: typ, Name: name, Mode: 0o666, Devmajor: major, Devminor: minor}}
}

func xattr(e testenv.Entry, name, value string) testenv.Entry {
	return with(e, func(h *tar.Header) { h.PAXRecords = map[string]string{"SCHILY.xattr." + name: value} })
}

// entries is an image of layers, the lowest first. In names and links OUTSIDE is the absolute name of what an archive
// has no business with.
func entries(layers ...[]testenv.Entry) func(h *house) *image {
	return func(h *house) *image {
		img := newImage()
		for _, l := range layers {
			var told []testenv.Entry
			for _, e := range l {
				e.Name = strings.ReplaceAll(e.Name, "OUTSIDE", h.outside)
				e.Linkname = strings.ReplaceAll(e.Linkname, "OUTSIDE", h.outside)
				told = append(told, e)
			}
			img.add(of(h.t, told...))
		}
		return img.seal(h.t)
	}
}

type list = []testenv.Entry

// plain is an image of one layer, a tar archive that no library would write.
func plain(make func(t testing.TB) []byte) func(h *house) *image {
	return func(h *house) *image { return newImage(bytesOf(h.t, make(h.t))).seal(h.t) }
}

// raw is one block of a tar archive: a header in the form of POSIX.1-1988, whose fields are taken as they are.
func raw(typ byte, name, size string) []byte {
	block := make([]byte, 512)
	copy(block, name)
	copy(block[100:], "0000644\x000000000\x000000000\x00")
	copy(block[124:136], size)
	copy(block[136:], "00000000000\x00")
	block[156] = typ
	copy(block[257:], "ustar\x0000")
	return checksum(block)
}

func checksum(block []byte) []byte {
	copy(block[148:156], "        ")
	sum := 0
	for _, b := range block {
		sum += int(b)
	}
	copy(block[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return block
}

// padded is content in whole blocks.
func padded(content string) []byte {
	return append([]byte(content), make([]byte, (512-len(content)%512)%512)...)
}

func octal(n int64) string { return fmt.Sprintf("%011o\x00", n) }

// pax is an extended header with these records, as they are, in front of a file "a".
func pax(records string) func(t testing.TB) []byte {
	return func(testing.TB) []byte {
		return bytes.Join([][]byte{raw('x', "pax", octal(int64(len(records)))), padded(records),
			raw('0', "a", octal(1)), padded("1"), make([]byte, 1024)}, nil)
	}
}

// record is one record of an extended header: its length, which counts itself, a key and a value. See pax(1).
func record(key, value string) string {
	rest := " " + key + "=" + value + "\n"
	n := len(rest) + len(fmt.Sprint(len(rest)))
	if len(fmt.Sprint(n))+len(rest) != n {
		n++
	}
	return fmt.Sprint(n) + rest
}

// bomb is a gzip file of before, and then n gigabytes of zeros in a megabyte each. A file of many members is the one
// of all of them: see RFC 1952, 2.2. Nobody gets as far as to the diffID, so it is any.
func bomb(t testing.TB, before []byte, gigabytes int) layer {
	zip := func(r io.Reader) []byte {
		var buf bytes.Buffer
		w, err := gzip.NewWriterLevel(&buf, gzip.BestCompression)
		if err == nil {
			_, err = io.Copy(w, r)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		return buf.Bytes()
	}
	member := zip(io.LimitReader(zeros{}, 1<<26))
	return layer{append(zip(bytes.NewReader(before)), bytes.Repeat(member, gigabytes<<30>>26)...), digest(nil)}
}

var loops = list{symlink("a", "b"), symlink("b", "a"), file("a/x", "1")}

func archives() []attack {
	return []attack{
		// Names that lead out.
		{name: "dotdot", image: entries(list{file("../../../../../outside/x", "led out\n")}), refused: "leads out of the folder"},
		{name: "dotdot in the middle", image: entries(list{dir("a"), file("a/../../../../../../../outside/x", "")}), refused: "leads out of the folder"},
		{name: "dotdot as a folder", image: entries(list{dir("..")}), refused: "leads out of the folder"},
		{name: "absolute name", image: entries(list{file("OUTSIDE/secret", "led out\n")}), then: inside("secret=led out\n")},
		{name: "symlink, then a file through it", image: entries(list{symlink("door", "OUTSIDE"), file("door/secret", "led out\n")}), then: inside("secret=led out\n")},
		{name: "symlink of dotdots, then a file through it", image: entries(list{symlink("door", strings.Repeat("../", 50)+"OUTSIDE"), file("door/secret", "led out\n")}), then: inside("secret=led out\n")},
		{name: "symlink to a folder of proc", image: entries(list{symlink("door", "/proc/self/cwd"), file("door/x", "led out\n")}), layers: "door->/proc/self/cwd proc/ proc/self/ proc/self/cwd/ proc/self/cwd/x=led out\n"},
		{name: "symlink in one layer, a file through it in the next", image: entries(list{symlink("door", "OUTSIDE")}, list{file("door/secret", "led out\n")}), then: inside("secret=led out\n")},
		{name: "folder swapped for a symlink", image: entries(list{dir("d"), file("d/x", "1"), symlink("d", "OUTSIDE"), file("d/secret", "led out\n")}), then: inside("secret=led out\n")},
		{name: "symlink swapped for another", image: entries(list{dir("d"), symlink("a", "d"), file("a/x", "1"), symlink("a", "OUTSIDE"), file("a/secret", "led out\n")}), then: inside("secret=led out\n")},
		{name: "symlink overwritten by a file", image: entries(list{symlink("a", "OUTSIDE/secret"), file("a", "led out\n")}), layers: "a=led out\n"},
		{name: "hard link to dotdot", image: entries(list{link("a", "../../../../../outside/secret")}), refused: "leads out of the folder"},
		{name: "hard link to an absolute name", image: entries(list{link("a", "OUTSIDE/secret")}), refused: "which neither this layer nor one below has"},
		{name: "hard link through a symlink", image: entries(list{symlink("door", "OUTSIDE"), link("a", "door/secret")}), refused: "which neither this layer nor one below has"},
		{name: "hard link to a symlink, then a file through it", image: entries(list{symlink("l", "OUTSIDE"), link("a", "l"), file("a/secret", "led out\n")}), then: inside("secret=led out\n")},
		{name: "hard link to a symlink, then overwritten", image: entries(list{symlink("l", "OUTSIDE/secret"), link("a", "l"), file("a", "led out\n")}), layers: "a=led out\n l->/OUTSIDE/secret"},

		// Whiteouts.
		{name: "whiteout of dotdot", image: entries(list{file("a", "1")}, list{file(".wh...", "")}), refused: `a whiteout of ".."`},
		{name: "whiteout of dot", image: entries(list{file("a", "1")}, list{file(".wh..", "")}), refused: `a whiteout of "."`},
		{name: "whiteout of nothing", image: entries(list{file("a", "1")}, list{file(".wh.", "")}), refused: `a whiteout of ""`},
		{name: "whiteout of a whiteout", image: entries(list{file("foo", "1"), file(".wh..wh.foo", "")}), layers: "foo=1"},
		{name: "whiteout through a symlink", image: entries(list{symlink("door", "OUTSIDE")}, list{file("door/.wh.secret", "")}), layers: "door->/OUTSIDE"},
		{name: "opaque marker through a symlink", image: entries(list{symlink("door", "OUTSIDE")}, list{file("door/.wh..wh..opq", "")}), layers: "door->/OUTSIDE"},
		{name: "whiteout with something in it", image: entries(list{file("a", "1")}, list{file(".wh.a/b", "2")}), refused: "whiteout"},
		{name: "whiteout spelled as overlayfs does", image: entries(list{file("a", "1")}, list{device("a", tar.TypeChar, 0, 0)}), refused: "overlayfs would take for a whiteout"},
		{name: "device number that is cut to a whiteout's", image: entries(list{with(device("a", tar.TypeChar, 1<<12, 0), func(h *tar.Header) { h.Format = tar.FormatGNU })}), refused: "no device is 4096/0"},
		{name: "xattr that makes a folder opaque", image: entries(list{dir("d"), file("d/a", "1")}, list{xattr(dir("d"), "trusted.overlay.opaque", "y")}), layers: "d/ d/ d/a=1"},
		{name: "xattr that redirects a folder", image: entries(list{dir("d")}, list{xattr(dir("e"), "trusted.overlay.redirect", "/d")}), layers: "d/ e/", then: noXattrs},
		{name: "xattr that takes another file's content", image: entries(list{file("d", "1")}, list{xattr(file("e", ""), "trusted.overlay.metacopy", "")}), layers: "d=1 e=", then: noXattrs},
		{name: "xattr for overlayfs in a user namespace", image: entries(list{xattr(dir("d"), "user.overlay.opaque", "y")}), layers: "d/", then: noXattrs},

		// Types and names.
		{name: "xattr without a name", image: entries(list{xattr(file("a", ""), "", "1")}), refused: "xattr"},
		{name: "xattr of no namespace", image: entries(list{xattr(file("a", ""), "note", "1")}), layers: "a="},
		{name: "file as a parent", image: entries(list{file("a", "1"), file("a/b", "2")}), refused: "which is no folder"},
		{name: "symlink loop", image: entries(loops), refused: "too many levels of symbolic links"},
		{name: "hard link to itself", image: entries(list{link("a", "a")}), refused: "which neither this layer nor one below has"},
		{name: "hard link to a folder", image: entries(list{dir("d"), link("a", "d")}), refused: "a hard link to the folder"},
		{name: "the root as a file", image: entries(list{file(".", "1")}), refused: "replace the folder itself"},
		{name: "the root as a symlink", image: entries(list{symlink(".", "OUTSIDE")}), refused: "replace the folder itself"},
		{name: "the root as a hard link", image: entries(list{file("a", "1"), link(".", "a")}), refused: "replace the folder itself"},
		{name: "no name", image: entries(list{file("", "1")}), refused: "replace the folder itself"},
		{name: "unknown type", image: entries(list{with(file("a", ""), func(h *tar.Header) { h.Typeflag = 'Z' })}), refused: "unknown type"},
		{name: "NUL in a name", image: plain(pax(record("path", "a\x00b"))), refused: "not a tar archive"},
		{name: "newline in a name", image: entries(list{file("a\nb", "1")}), layers: "a\nb=1"},
		{name: "escape sequences in a name", image: entries(list{file("\x1b[2Ja", ""), file("\x1b[2Ja/b", "")}), refused: `\x1b[2Ja`},
		{name: "escape sequences in a link", image: entries(list{link("a", "\x1b]0;title\a")}), refused: `\x1b]0;title`},
		{name: "name that is no UTF-8", image: entries(list{with(file("\xff\xfe", "1"), func(h *tar.Header) { h.Format = tar.FormatGNU })}), layers: "\xff\xfe=1"},
		{name: "name of 300 bytes", image: entries(list{file(strings.Repeat("a", 300), "")}), refused: "name too long"},
		{name: "5,000 nested folders", image: entries(list{file(strings.Repeat("d/", 5000)+"a", "1")}), refused: "deep"},
		{name: "5,000 nested folders, an entry each", image: func(h *house) *image {
			return newImage(many(h.t, 5000, func(n int) *tar.Header {
				return &tar.Header{Typeflag: tar.TypeDir, Name: strings.Repeat("d/", n+1), Mode: 0o755}
			})).seal(h.t)
		}, refused: "deep"},
		{name: "5,000 nested folders through symlinks", image: func(h *house) *image {
			all := list{dir(strings.Repeat("d/", 200))}
			at := strings.Repeat("d/", 200)
			for n := range 30 {
				all = append(all, symlink(fmt.Sprint("l", n), at))
				all = append(all, dir(fmt.Sprintf("l%d/%s", n, strings.Repeat("d/", 200))))
				at = fmt.Sprintf("l%d/%s", n, strings.Repeat("d/", 200))
			}
			return entries(all)(h)
		}, refused: "deep"},
		{name: "setuid file", image: running(nil, with(file("su", "#!"), func(h *tar.Header) { h.Mode = 0o4755 })), then: outOfReach},

		{name: "owner 2^32, in 32 bits root", image: plain(pax(record("uid", "4294967296"))), refused: "no file can be that of user 4294967296"},
		{name: "owner 2^32-1, who is nobody", image: plain(pax(record("uid", "4294967295"))), refused: "no file can be that of user 4294967295"},
		{name: "group -1, in base 256", image: entries(list{with(file("a", "1"), func(h *tar.Header) { h.Gid, h.Format = -1, tar.FormatGNU })}), refused: "and group -1"},
		{name: "owner of a folder, in base 256", image: entries(list{with(dir("d"), func(h *tar.Header) { h.Uid, h.Format = 1<<32, tar.FormatGNU })}), refused: "no file can be that of user 4294967296"},

		// Sizes.
		{name: "a million entries and one", image: func(h *house) *image {
			return newImage(many(h.t, 1_000_001, func(int) *tar.Header {
				return &tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o755}
			})).seal(h.t)
		}, refused: "entries"},
		{name: "a million whiteouts of nothing", image: func(h *house) *image {
			return newImage(of(h.t, file("a", "1")), many(h.t, 1_000_001, func(n int) *tar.Header {
				return &tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf(".wh.%d", n)}
			})).seal(h.t)
		}, refused: "entries"},
		{name: "folders that the archive leaves out", image: func(h *house) *image {
			return newImage(many(h.t, 100, func(n int) *tar.Header {
				return &tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("%d/%sa", n, strings.Repeat("d/", 100))}
			})).seal(h.t)
		}, flags: []string{"--max-entries", "1000"}, refused: "more than 1000 entries"},
		{name: "hard link that copies a file, again and again", image: func(h *house) *image {
			var all list
			for n := range 20 {
				all = append(all, link(fmt.Sprint(n), "d/big"), file("d", ""), dir("d"))
			}
			return newImage(of(h.t, file("d/big", strings.Repeat("\x00", 200<<20))), of(h.t, all...)).seal(h.t)
		}},
		{name: "10 GB in 10 MB", image: func(h *house) *image {
			return newImage(bomb(h.t, raw('0', "a", octal(8<<30-1)), 10)).seal(h.t)
		}, refused: "--max-size"},
		{name: "10 GB after the end", image: func(h *house) *image {
			return newImage(bomb(h.t, testenv.Tar(h.t, file("a", "1")), 10)).seal(h.t)
		}, refused: "--max-size"},
		{name: "10 GB in 10 MB, in four layers", image: func(h *house) *image {
			img := newImage()
			for n := range 4 {
				img.add(bomb(h.t, raw('0', fmt.Sprint(n), octal(2500<<20)), 3))
			}
			return img.seal(h.t)
		}, refused: "--max-size"},
		{name: "8 TB of holes, GNU", image: plain(func(testing.TB) []byte {
			block := raw('S', "a", octal(512))
			copy(block[257:], "ustar  \x00")
			for i, number := range []int64{8<<40 - 512, 512} { // one piece: its offset and its length
				copy(block[386+12*i:], base256(number))
			}
			copy(block[483:495], base256(8<<40)) // the real size
			return bytes.Join([][]byte{checksum(block), padded("1"), make([]byte, 1024)}, nil)
		}), refused: "--max-size"},
		{name: "8 TB of holes, PAX", image: plain(func(testing.TB) []byte {
			records := record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.name", "a") + record("GNU.sparse.realsize", fmt.Sprint(8<<40))
			content := "1\n" + fmt.Sprint(8<<40-1) + "\n1\n"
			return bytes.Join([][]byte{raw('x', "pax", octal(int64(len(records)))), padded(records),
				raw('0', "a", octal(512+1)), padded(content), padded("1"), make([]byte, 1024)}, nil)
		}), refused: "--max-size"},
		{name: "a million holes", image: plain(func(testing.TB) []byte {
			records := record("GNU.sparse.major", "1") + record("GNU.sparse.minor", "0") + record("GNU.sparse.name", "a") + record("GNU.sparse.realsize", fmt.Sprint(1<<30))
			var content strings.Builder
			fmt.Fprintf(&content, "%d\n", 1_000_000)
			for n := range 1_000_000 {
				fmt.Fprintf(&content, "%d\n0\n", n)
			}
			return bytes.Join([][]byte{raw('x', "pax", octal(int64(len(records)))), padded(records),
				raw('0', "a", octal(int64(content.Len()))), padded(content.String()), make([]byte, 1024)}, nil)
		}), refused: "not a tar archive"},
		{name: "negative size", image: plain(func(testing.TB) []byte {
			return bytes.Join([][]byte{raw('0', "a", base256(-1)), make([]byte, 1024)}, nil)
		}), refused: "not a tar archive"},
		{name: "size of words", image: plain(func(testing.TB) []byte {
			return bytes.Join([][]byte{raw('0', "a", "many bytes \x00"), make([]byte, 1024)}, nil)
		}), refused: "not a tar archive"},
		{name: "size larger than the archive", image: plain(func(testing.TB) []byte {
			return bytes.Join([][]byte{raw('0', "a", octal(1<<20)), padded("1"), make([]byte, 1024)}, nil)
		}), refused: "not a tar archive"},
		{name: "size of 8 exabytes", image: plain(func(testing.TB) []byte {
			return bytes.Join([][]byte{raw('0', "a", base256(1<<63-1)), padded("1"), make([]byte, 1024)}, nil)
		}), refused: "--max-size"},
		{name: "folder with a size", image: plain(func(testing.TB) []byte {
			return bytes.Join([][]byte{raw('5', "d", octal(512)), raw('0', "a", octal(0)), make([]byte, 1024)}, nil)
		}), layers: "a= d/"},
		{name: "two sizes", image: plain(func(testing.TB) []byte {
			hidden := append(raw('0', "hidden", octal(1)), padded("2")...)
			records := record("size", fmt.Sprint(len(hidden)))
			return bytes.Join([][]byte{raw('x', "pax", octal(int64(len(records)))), padded(records),
				raw('0', "a", octal(0)), hidden, make([]byte, 1024)}, nil)
		}), layers: "a of 1024 bytes"},
		{name: "PAX size below zero", image: plain(pax(record("size", "-1"))), refused: "not a tar archive"},
		{name: "PAX size larger than any number", image: plain(pax(record("size", strings.Repeat("9", 30)))), refused: "not a tar archive"},
		{name: "PAX record longer than its header", image: plain(pax("999999999 path=b\n")), refused: "not a tar archive"},
		{name: "PAX record shorter than its key", image: plain(pax("5 path=b\n")), refused: "not a tar archive"},
		{name: "PAX header and nothing after it", image: plain(func(testing.TB) []byte { return raw('x', "pax", octal(0)) })},
		{name: "PAX header of 200 MB", image: func(h *house) *image {
			return newImage(archive(h.t, func(w io.Writer) error {
				_, err := w.Write(raw('x', "pax", octal(200<<20)))
				if err == nil {
					_, err = io.Copy(w, io.LimitReader(spaces{}, 200<<20))
				}
				return err
			})).seal(h.t)
		}, refused: "not a tar archive"},
		{name: "GNU name of 200 MB", image: func(h *house) *image {
			return newImage(archive(h.t, func(w io.Writer) error {
				_, err := w.Write(raw('L', "././@LongLink", octal(200<<20)))
				if err == nil {
					_, err = io.Copy(w, io.LimitReader(spaces{}, 200<<20))
				}
				return err
			})).seal(h.t)
		}, refused: "not a tar archive"},
		{name: "200 PAX headers of a megabyte", image: func(h *house) *image {
			return newImage(archive(h.t, func(w io.Writer) error {
				records := record("comment", strings.Repeat("x", 1<<20-100))
				for range 200 {
					if _, err := w.Write(append(raw('x', "pax", octal(int64(len(records)))), padded(records)...)); err != nil {
						return err
					}
				}
				_, err := w.Write(bytes.Join([][]byte{raw('0', "a", octal(1)), padded("1"), make([]byte, 1024)}, nil))
				return err
			})).seal(h.t)
		}, layers: "a=1"},

		// Compression.
		{name: "gzip cut short", image: func(h *house) *image {
			l := of(h.t, file("a", strings.Repeat("1", 1000)))
			l.blob = l.blob[:len(l.blob)-9]
			return newImage(l).seal(h.t)
		}, refused: "not a tar archive"},
		{name: "gzip with something after its end", image: func(h *house) *image {
			l := of(h.t, file("a", "1"))
			l.blob = append(l.blob, "more"...)
			return newImage(l).seal(h.t)
		}, layers: "a=1"},
		{name: "zstd that asks for a window of 1 GB", image: func(h *house) *image {
			// A frame's header: magic, descriptor, window of 2^30 bytes; then a block of 4 zeros, the last. RFC 8878, 3.1.1.
			blob := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, (30 - 10) << 3, 0x23, 0x00, 0x00, 0x00}
			return newImage(layer{blob, digest(make([]byte, 4))}).seal(h.t)
		}, refused: "not a tar archive"},
		{name: "zstd bomb", image: func(h *house) *image {
			var frame bytes.Buffer
			w, err := zstd.NewWriter(&frame)
			if err == nil {
				_, err = io.Copy(w, io.LimitReader(zeros{}, 1<<28))
			}
			if err == nil {
				err = w.Close()
			}
			if err != nil {
				h.t.Fatal(err)
			}
			first, err := zstd.NewWriter(nil)
			if err != nil {
				h.t.Fatal(err)
			}
			blob := first.EncodeAll(raw('0', "a", octal(8<<30-1)), nil)
			return newImage(layer{append(blob, bytes.Repeat(frame.Bytes(), 40)...), digest(nil)}).seal(h.t)
		}, refused: "--max-size"},
		{name: "xz that asks for a dictionary of 1.5 GB", image: func(h *house) *image {
			return newImage(layer{xzHeader(), digest(nil)}).seal(h.t)
		}, refused: "not a tar archive"},
		{name: "gzip in gzip", image: func(h *house) *image {
			l := of(h.t, file("a", "1"))
			return newImage(bytesOf(h.t, l.blob)).seal(h.t)
		}, refused: "not a tar archive"},
		{name: "no archive", image: func(h *house) *image {
			return newImage(bytesOf(h.t, []byte(strings.Repeat("no archive\n", 100)))).seal(h.t)
		}, refused: "not a tar archive"},
		{name: "archive that comes twice", image: plain(func(t testing.TB) []byte {
			return append(testenv.Tar(t, file("a", "1")), testenv.Tar(t, file("b", "2"))...)
		}), layers: "a=1"},
		{name: "empty layer", image: func(h *house) *image {
			return newImage(of(h.t, file("a", "1")), of(h.t)).seal(h.t)
		}, layers: "a=1"},
		{name: "layer of no bytes", image: func(h *house) *image {
			return newImage(of(h.t, file("a", "1")), layer{nil, digest(nil)}).seal(h.t)
		}, layers: "a=1"},
		{name: "the same layer three times", image: func(h *house) *image {
			l := of(h.t, file("a", "1"))
			return newImage(l, l, l).seal(h.t)
		}, layers: "a=1 a=1 a=1"},
	}
}

// base256 is a number as GNU's tar writes those that octal digits cannot hold: big endian, the first bit set.
func base256(n int64) string {
	field := bytes.Repeat([]byte{byte(n >> 63)}, 12)
	for i := range 8 {
		field[11-i] = byte(n >> (8 * i))
	}
	field[0] |= 0x80
	return string(field)
}

// xzHeader is the beginning of an xz file whose block wants the dictionary size 38: 1.5 GB. See the .xz file format.
func xzHeader() []byte {
	block := []byte{0x02, 0x00, 0x21, 0x01, 38, 0, 0, 0}
	sum := func(b []byte) []byte { return binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(b)) }
	return bytes.Join([][]byte{{0xfd, '7', 'z', 'X', 'Z', 0, 0, 0}, sum([]byte{0, 0}), block, sum(block),
		{1, 0, 3}, []byte("abcd"), {0}}, nil)
}

// inside wants the file in the layer, below the name that it has on the host.
func inside(want string) func(h *house, _ string) {
	return func(h *house, _ string) {
		if got := h.files(); !strings.Contains(got, " OUTSIDE/"+want) {
			h.t.Errorf("the layers are %q, want OUTSIDE/%q among them", got, want)
		}
	}
}

// noXattrs wants none of overlayfs's in any layer.
func noXattrs(h *house, _ string) {
	err := filepath.WalkDir(h.store.Layers(), func(path string, _ fs.DirEntry, err error) error {
		names := make([]byte, 1000)
		n, listErr := unix.Llistxattr(path, names)
		if strings.Contains(string(names[:max(n, 0)]), "overlay") {
			h.t.Errorf("%s has the xattrs %q", path, names[:n])
		}
		return errors.Join(err, listErr)
	})
	if err != nil {
		h.t.Error(err)
	}
}

// outOfReach wants that another user of the host finds no way to a setuid file: not in the layer, and not where a
// container has it.
func outOfReach(h *house, name string) {
	if out, status := h.gocker("final", h.run("-d", "--name", "held", name, "sleep", "1000")...); status != 0 {
		h.t.Fatalf("run -d ended with %d:\n%s", status, out)
	}
	defer h.gocker("final", "rm", "-f", "held")
	find := exec.Command("find", filepath.Dir(h.store.Root), "-name", "su*")
	find.Dir = h.base
	find.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := find.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || regexp.MustCompile("(?m)/su$").Match(out) || !strings.Contains(string(out), "Permission denied") {
		h.t.Errorf("nobody finds %v:\n%s", err, out)
	}
	if out, status := h.gocker("final", "exec", "held", "sh", "-c", "stat -c %A /su"); status != 0 || out != "-rwsr-xr-x\n" {
		h.t.Errorf("in the container it is %q, %d", out, status)
	}
}
