package testenv

import (
	"archive/tar"
	"bytes"
	"fmt"
	"strings"
)

// words are what a fuzzer's names are made of. Few of them: only then do entries meet.
var words = []string{"a", "b", "c", "..", ".", "", "/", ".wh.a", ".wh.b", ".wh..wh..opq", ".wh..wh.a", "outside", "../outside", strings.Repeat("n", 200)}

// Entries reads tar entries out of the bytes of a fuzzer: whatever they are, some archive is meant.
func Entries(data []byte) (all []Entry) {
	next := func() (b byte) {
		if len(data) > 0 {
			b, data = data[0], data[1:]
		}
		return b
	}
	name := func() string {
		var parts []string
		for range 1 + next()%3 {
			parts = append(parts, words[int(next())%len(words)])
		}
		return strings.Join(parts, "/")
	}
	types := []byte{tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeFifo, tar.TypeChar, tar.TypeReg, tar.TypeDir}
	for len(data) > 0 && len(all) < 100 {
		e := Entry{Header: tar.Header{Typeflag: types[int(next())%len(types)], Name: name(), Mode: int64(next()) << 4}}
		if e.Typeflag != tar.TypeDir {
			e.Name = strings.TrimRight(e.Name, "/") // with one it would be a folder
		}
		switch e.Typeflag {
		case tar.TypeReg:
			e.Content = fmt.Sprint(len(all))
		case tar.TypeSymlink, tar.TypeLink:
			e.Linkname = name()
		case tar.TypeChar:
			e.Devmajor, e.Devminor = int64(next())%2, int64(next())
		}
		if next()%8 == 0 {
			e.PAXRecords = map[string]string{"SCHILY.xattr." + []string{"user.a", "trusted.overlay.opaque", "user.overlay.opaque", "trusted.overlay.redirect"}[next()%4]: "y"}
		}
		all = append(all, e)
	}
	return all
}

// Repair gives all that looks like a header of a tar archive the right checksum, without which no reader looks at the
// rest of it.
func Repair(archive []byte) []byte {
	archive = bytes.Clone(archive)
	for block := archive; len(block) >= 512; block = block[512:] {
		if !bytes.HasPrefix(block[257:], []byte("ustar")) {
			continue
		}
		copy(block[148:156], "        ")
		sum := 0
		for _, b := range block[:512] {
			sum += int(b)
		}
		copy(block[148:156], fmt.Sprintf("%06o\x00 ", sum))
	}
	return archive
}
