package untar

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"

	"github.com/mholt/archiver/v3"
)

// magics are the first bytes by which compressed data is known.
var magics = []struct {
	magic []byte
	open  func() archiver.Decompressor
}{
	{[]byte("\x1f\x8b"), func() archiver.Decompressor { return archiver.NewGz() }},
	{[]byte("\x28\xb5\x2f\xfd"), func() archiver.Decompressor { return archiver.NewZstd() }},
	{[]byte("BZh"), func() archiver.Decompressor { return archiver.NewBz2() }},
	{[]byte("\xfd7zXZ\x00"), func() archiver.Decompressor { return archiver.NewXz() }},
}

// large is the size, in compressed bytes, from which on it pays to start a program.
const large = 1 << 20

// Decompress returns the plain bytes of gzip, zstd, bzip2 or xz data, found by its first bytes, and any other data as
// it is. Names and media types are not asked: they are claims. Close the result in any case; afterwards nobody reads
// from r any more.
func Decompress(r io.Reader) io.ReadCloser {
	buffered := bufio.NewReaderSize(r, large)
	first, _ := buffered.Peek(6) // an error comes back at the first read
	for i, m := range magics {
		if !bytes.HasPrefix(first, m.magic) {
			continue
		}
		if i == 0 { // Is there more of it than a program's start costs?
			if _, err := buffered.Peek(large); err == nil {
				if program := gunzip(buffered); program != nil {
					return program
				}
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

// A child is igzip, of Intel's ISA-L, at work. Most of the time that a pull takes goes into gzip, and igzip is twice as
// fast as the library. (unpigz is not: the library, too, reads and writes in goroutines of their own.)
type child struct {
	cmd *exec.Cmd
	out io.Reader
	fed chan error // what came of passing the data on
	log bytes.Buffer
	end error // of the data, once it was reached
}

// gunzip starts igzip, and returns nil where the machine has none.
func gunzip(r io.Reader) io.ReadCloser {
	c := &child{cmd: exec.Command("igzip", "-dc"), fed: make(chan error, 1)}
	c.cmd.Stderr = &c.log
	in, err := c.cmd.StdinPipe()
	if err != nil {
		return nil
	}
	if c.out, err = c.cmd.StdoutPipe(); err != nil {
		return nil
	}
	if c.cmd.Start() != nil { // which closes the pipes
		return nil
	}
	go func() {
		_, err := io.Copy(in, r)
		in.Close()
		c.fed <- err
	}()
	return c
}

func (c *child) Read(p []byte) (int, error) {
	if c.end != nil {
		return 0, c.end
	}
	n, err := c.out.Read(p)
	if err == io.EOF {
		c.end = c.wait()
		err = c.end
	}
	return n, err
}

// wait says how the program ended: io.EOF if all went well.
func (c *child) wait() error {
	fed := <-c.fed
	ended := c.cmd.Wait()
	switch {
	case fed != nil && !errors.Is(fed, syscall.EPIPE): // it was not the program that ended first
		return fed
	case ended != nil:
		return fmt.Errorf("%s: %w: %s", c.cmd.Args[0], ended, bytes.TrimSpace(c.log.Bytes()))
	}
	return io.EOF
}

func (c *child) Close() error {
	if c.end == nil {
		c.cmd.Process.Kill()
		c.end = c.wait()
	}
	return nil
}
