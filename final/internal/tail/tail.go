//go:build linux

// Package tail reads lines of a file that others append to.
package tail

import (
	"bufio"
	"io"
	"os"
	"time"
)

// PollTime is how often files are looked at that others write to.
const PollTime = 50 * time.Millisecond

// Lines are the lines of a file that others append to, and that may be replaced by a new one.
type Lines struct {
	File   *os.File // that they are in; nil: none yet
	reader *bufio.Reader
	rest   []byte // of a line that is not complete
}

// Open goes on with another file.
func (l *Lines) Open(name string) error {
	l.Close()
	f, err := os.Open(name)
	if err == nil {
		l.Use(f)
	}
	return err
}

// Use goes on with a file that is open, and is closed with l.
func (l *Lines) Use(f *os.File) {
	l.Close()
	l.File, l.reader = f, bufio.NewReader(f)
}

// Next returns the next line, with its newline. io.EOF says that it is not there yet.
func (l *Lines) Next() ([]byte, error) {
	if l.File == nil {
		return nil, io.EOF
	}
	piece, err := l.reader.ReadBytes('\n')
	l.rest = append(l.rest, piece...)
	if err != nil {
		return nil, err
	}
	line := l.rest
	l.rest = nil
	return line, nil
}

// Moved tells whether the name is now another file's. Then what this one has is all that it will have.
func (l *Lines) Moved(name string) bool {
	now, err := os.Stat(name)
	if err != nil || l.File == nil {
		return err == nil
	}
	before, err := l.File.Stat()
	return err == nil && !os.SameFile(now, before)
}

// Close closes the file.
func (l *Lines) Close() {
	if l.File != nil {
		l.File.Close()
		l.File = nil
	}
}
