//go:build linux

// Package tail is for files that grow at their end by whole lines, while others read them.
//
// A disk that is full ends a write(2) anywhere, and so does a kill. A line that a writer has not finished is cut off: by the same
// Append, or else by the next one. One may write to a file at a time; any number may read it meanwhile.
package tail

import (
	"bufio"
	"bytes"
	"errors"
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
	line, err := l.reader.ReadBytes('\n')
	if err == io.EOF && len(line) > 0 {
		// A half may be cut off again, and another line be written in its place: it is read anew each time.
		if _, err := l.File.Seek(-int64(len(line)), io.SeekCurrent); err != nil {
			return nil, err
		}
		l.reader.Reset(l.File)
	}
	if err != nil {
		return nil, err
	}
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

// Append writes lines at the end of a file that is open for reading, too, with O_APPEND. If there is no room for all of
// them, it writes as many whole ones as there is room for. size is what the file has then.
func Append(file *os.File, lines []byte) (size int64, err error) {
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	whole, err := wholeLines(file, info.Size())
	if err == nil && whole < info.Size() {
		err = file.Truncate(whole)
	}
	if err != nil {
		return info.Size(), err
	}
	n, err := file.Write(lines)
	size = whole + int64(n)
	if err != nil {
		whole += int64(bytes.LastIndexByte(lines[:n], '\n') + 1)
		if cutErr := file.Truncate(whole); cutErr != nil { // the next Append tries again
			return size, errors.Join(err, cutErr)
		}
		size = whole
	}
	return size, err
}

// wholeLines is where the last newline before end is, and one more.
func wholeLines(file io.ReaderAt, end int64) (int64, error) {
	block := make([]byte, 4096)
	for end > 0 {
		begin := max(0, end-int64(len(block)))
		piece := block[:end-begin]
		if _, err := file.ReadAt(piece, begin); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(piece, '\n'); i >= 0 {
			return begin + int64(i) + 1, nil
		}
		end = begin
	}
	return 0, nil
}
