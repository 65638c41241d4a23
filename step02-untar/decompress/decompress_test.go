package decompress

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"
)

func gz(t *testing.T, plain []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, err := w.Write(plain)
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestOnlyWhatIsWholeIsDecompressed(t *testing.T) {
	plain := bytes.Repeat([]byte("layer\n"), 100_000)
	sent := gz(t, plain)
	r := Reader(bytes.NewReader(sent))
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("Reader gives %d bytes, %v; want %d", len(got), err, len(plain))
	}
	r.Close()
	r = Reader(bytes.NewReader(sent[:len(sent)/2]))
	if _, err := io.ReadAll(r); err == nil {
		t.Error("Reader of half the data has no error")
	}
	r.Close()
}

func TestWhatFollowsTheLastMemberIsNotRead(t *testing.T) {
	plain := bytes.Repeat([]byte("layer\n"), 100_000)
	sent := gz(t, plain)
	for what, tt := range map[string]struct {
		more string
		want int // times plain; -1: it fails
	}{
		"a zero": {"\x00", 1}, "a block of zeros": {strings.Repeat("\x00", 512), 1}, "more zeros than a buffer has": {strings.Repeat("\x00", 3<<20), 1},
		"another member": {string(sent), 2}, "another member, and zeros": {string(sent) + "\x00\x00", 2}, "text": {"end\n", 1},
		"half of a member": {string(sent[:len(sent)/2]), -1}, "the first byte of a member": {"\x1f", -1},
	} {
		r := Reader(io.MultiReader(bytes.NewReader(sent), strings.NewReader(tt.more)))
		got, err := io.ReadAll(r)
		if r.Close(); (err != nil) != (tt.want < 0) || err == nil && !bytes.Equal(got, bytes.Repeat(plain, tt.want)) {
			t.Errorf("with %s behind it: %d bytes, %v; want %d", what, len(got), err, tt.want*len(plain))
		}
	}
}

func TestClosedEarlyNobodyReadsAnyMore(t *testing.T) {
	from := bytes.NewReader(gz(t, bytes.Repeat([]byte("layer\n"), 1_000_000)))
	r := Reader(from)
	if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	r.Close()
	from.Reset(nil) // the race detector would see a reader
}
