// Package igzip decompresses gzip data by igzip, a program of Intel's ISA-L: see decompress.Gunzip.
package igzip

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"
)

import ()

// A child is igzip, of Intel's ISA-L, at work. Most of the time that a pull takes goes into gzip, and igzip is twice as
// fast as the library. (unpigz is not: the library, too, reads and writes in goroutines of their own.)
type child struct {
	cmd *exec.Cmd
	out io.Reader
	fed chan error // what came of passing the data on
	log bytes.Buffer
	end error // of the data, once it was reached
}

// Gunzip starts igzip for data that are larger than r's buffer: then it pays to start a program. It returns nil for
// others, and where the machine has no igzip.
func Gunzip(r *bufio.Reader) io.ReadCloser {
	if _, err := r.Peek(r.Size()); err != nil {
		return nil
	}
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
