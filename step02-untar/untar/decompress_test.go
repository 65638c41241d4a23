package untar

import (
	"bytes"
	"io"
	"testing"
)

func TestOnlyWhatIsWholeIsDecompressed(t *testing.T) {
	plain := bytes.Repeat([]byte("layer\n"), 100_000)
	sent := gz(t, plain)
	r := Decompress(bytes.NewReader(sent))
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("Decompress gives %d bytes, %v; want %d", len(got), err, len(plain))
	}
	r.Close()
	r = Decompress(bytes.NewReader(sent[:len(sent)/2]))
	if _, err := io.ReadAll(r); err == nil {
		t.Error("Decompress of half the data has no error")
	}
	r.Close()
}

func TestClosedEarlyNobodyReadsAnyMore(t *testing.T) {
	from := bytes.NewReader(gz(t, bytes.Repeat([]byte("layer\n"), 1_000_000)))
	r := Decompress(from)
	if _, err := io.ReadFull(r, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	r.Close()
	from.Reset(nil) // the race detector would see a reader
}
