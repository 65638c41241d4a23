// Package decompress finds out how data is compressed, and gives back the plain bytes.
//
//	plain := decompress.Reader(compressed)
//	defer plain.Close()
package decompress

import (
	"bufio"
	"bytes"
	"io"

	"github.com/klauspost/pgzip"
	"github.com/mholt/archiver/v3"
)

// magics are the first bytes by which compressed data is known.
var magics = []struct {
	magic []byte
	open  func() archiver.Decompressor
}{
	{[]byte("\x1f\x8b"), func() archiver.Decompressor { return members{} }},
	{[]byte("\x28\xb5\x2f\xfd"), func() archiver.Decompressor { return archiver.NewZstd() }},
	{[]byte("BZh"), func() archiver.Decompressor { return archiver.NewBz2() }},
	{[]byte("\xfd7zXZ\x00"), func() archiver.Decompressor { return archiver.NewXz() }},
}

// Gunzip decompresses gzip data faster than the library, for a program that has one which does. It returns nil where it
// leaves the data to the library, and has taken nothing of them then. nil is the library.
var Gunzip func(r *bufio.Reader) io.ReadCloser

const readAhead = 1 << 20 // bytes

// Reader returns the plain bytes of gzip, zstd, bzip2 or xz data, found by its first bytes, and any other data as
// it is. Names and media types are not asked: they are claims. Close the result in any case; afterwards nobody reads
// from r any more.
func Reader(r io.Reader) io.ReadCloser {
	buffered := bufio.NewReaderSize(r, readAhead)
	first, _ := buffered.Peek(6) // an error comes back at the first read
	for i, m := range magics {
		if !bytes.HasPrefix(first, m.magic) {
			continue
		}
		if i == 0 && Gunzip != nil {
			if faster := Gunzip(buffered); faster != nil {
				return faster
			}
		}
		pr, pw := io.Pipe()
		d := decompressor{pr, make(chan struct{})}
		go func() {
			pw.CloseWithError(m.open().Decompress(buffered, pw))
			close(d.done)
		}()
		return d
	}
	return io.NopCloser(buffered)
}

// members is gzip data: one member after the other. What follows the last one and is none, zeros that fill a block of a tape
// or a disk, is left out, as gzip(1) does.
type members struct{}

// Decompress is of archiver.Decompressor. Its own for gzip takes all that follows for another member.
func (members) Decompress(in io.Reader, out io.Writer) error {
	buffered := in.(*bufio.Reader) // a reader that can give back a byte: so nothing is taken of what follows
	r, err := pgzip.NewReader(buffered)
	if err != nil {
		return err
	}
	defer r.Close()
	for {
		r.Multistream(false)
		if _, err := io.Copy(out, r); err != nil {
			return err
		}
		next, err := buffered.Peek(2)
		if err != nil && err != io.EOF {
			return err
		}
		if len(next) == 0 || !bytes.HasPrefix([]byte("\x1f\x8b"), next) {
			_, err := io.Copy(io.Discard, buffered)
			return err
		}
		if err := r.Reset(buffered); err != nil {
			return err
		}
	}
}

// A decompressor is the library at work in a goroutine.
type decompressor struct {
	*io.PipeReader
	done chan struct{}
}

func (d decompressor) Close() error {
	d.PipeReader.Close()
	<-d.done
	return nil
}
