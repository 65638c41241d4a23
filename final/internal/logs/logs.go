//go:build linux

// Package logs keeps what a container wrote.
package logs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"gocker/final/internal/describe"
	"gocker/final/internal/tail"
	"gocker/step01-pull/shared/dirs"
)

// name is the file with what a container wrote: a JSON object a line, as docker's json-file has it. One that is full becomes
// log.json.1, that one log.json.2, and so on.
const name = "log.json"

// Files are the names of a log's files in the container's folder.
var Files = []string{name + "*"}

// Name is the file that is written to.
func Name(folder string) string { return filepath.Join(folder, name) }

// Folder is the folder of a container's log. Before gocker had all of a container on the disk, log.json in the container's folder
// was a link to it.
func Folder(container string) string {
	if target, err := os.Readlink(Name(container)); err == nil {
		return filepath.Dir(target)
	}
	return container
}

// Bytes is what the log of a container takes on disk.
func Bytes(container string) (sum int64) {
	files, _ := dirs.Glob(Folder(container), name+"*")
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			sum += info.Size()
		}
	}
	return sum
}

// A line is what one output wrote.
type line struct {
	Log     string            `json:"log"` // a line with its newline, or the piece of a long one
	Stream  string            `json:"stream"`
	Details map[string]string `json:"attrs,omitempty"` // what the container is called by --log-opt, in each line
	Time    time.Time         `json:"time"`
}

// goesOn tells whether this is a piece of a long line that the next one of its output belongs to. What an output wrote last,
// without a newline, is shorter.
func (l line) goesOn() bool {
	return len(l.Log) > mostOfLine-utf8.UTFMax && !strings.HasSuffix(l.Log, "\n")
}

// A Log is open for writing.
type Log struct {
	name    string
	maxSize int64 // bytes; negative: no limit
	maxFile int
	details map[string]string

	mu      sync.Mutex
	file    *os.File
	size    int64
	lines   bytes.Buffer // that are to be written
	encoder *json.Encoder
	streams []*stream
	also    func(line) // where they go, too: see AlsoTo
}

// Open opens the log in this folder, to write behind what there is. Each line gets these details.
func Open(folder string, driver describe.LogDriver, details map[string]string) (*Log, error) {
	l := &Log{name: Name(folder), details: details}
	l.maxSize, l.maxFile = driver.Sizes()
	l.encoder = json.NewEncoder(&l.lines)
	l.encoder.SetEscapeHTML(false)
	return l, l.open()
}

func (l *Log) open() (err error) {
	if l.file, err = os.OpenFile(l.name, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600); err != nil {
		return err
	}
	info, err := l.file.Stat()
	if err == nil {
		l.size = info.Size()
	}
	return err
}

// add adds a line to those that are to be written.
func (l *Log) add(one line) {
	l.encoder.Encode(one)
	if l.also != nil {
		l.also(one)
	}
}

// write writes all lines at once. A disk that is full does not stop the container: lines that do not fit are lost.
func (l *Log) write() {
	l.size, _ = tail.Append(l.file, l.lines.Bytes())
	l.lines.Reset()
	if l.maxSize > 0 && l.size >= l.maxSize {
		l.turn()
	}
}

// turn begins a new file. A reader of the old one still has it. At no moment a name is missing, as a reader would take that
// for the end: files get their next name by a link.
func (l *Log) turn() {
	next, err := os.OpenFile(l.name+".next", os.O_CREATE|os.O_TRUNC|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return // it goes on with the one that it has
	}
	link := l.name + ".link"
	os.Remove(link) // a crash has left it
	for i := l.maxFile - 1; i > 0; i-- {
		if os.Link(older(l.name, i-1), link) == nil { // one that is there
			os.Rename(link, older(l.name, i))
		}
	}
	os.Rename(next.Name(), l.name)
	l.file.Close()
	l.file, l.size = next, 0
}

// older is the name of the i-th file before the current one.
func older(name string, i int) string {
	if i == 0 {
		return name
	}
	return fmt.Sprintf("%s.%d", name, i)
}

// Stream is what writes the lines of stdout or stderr.
func (l *Log) Stream(name string) io.Writer {
	s := &stream{log: l, name: name}
	l.streams = append(l.streams, s)
	return s
}

// Flush writes what came last without a newline, when the streams have ended.
func (l *Log) Flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.streams {
		if len(s.rest) > 0 {
			l.add(line{string(s.rest), s.name, l.details, time.Now().UTC()})
		}
	}
	l.write()
	l.streams = nil
}

// A stream is one of the two outputs. It holds back what has no newline yet, up to 16 KiB, docker's limit.
type stream struct {
	log  *Log
	name string
	rest []byte
}

const mostOfLine = 16 << 10

// wholeCharacters is how many bytes of a piece are up to a character that the next piece completes: JSON has only whole ones.
func wholeCharacters(piece []byte) int {
	for n := len(piece) - 1; n > len(piece)-utf8.UTFMax; n-- {
		if utf8.RuneStart(piece[n]) {
			if utf8.FullRune(piece[n:]) {
				break
			}
			return n
		}
	}
	return len(piece)
}

// Write does not fail.
func (s *stream) Write(p []byte) (int, error) {
	l := s.log
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now().UTC()
	for rest := p; ; {
		end := bytes.IndexByte(rest, '\n') + 1
		if end == 0 {
			end = len(rest)
		}
		end = min(end, mostOfLine-len(s.rest))
		s.rest, rest = append(s.rest, rest[:end]...), rest[end:]
		if n := len(s.rest); n == 0 || n < mostOfLine && s.rest[n-1] != '\n' {
			break // it goes on with the next Write
		}
		whole := wholeCharacters(s.rest)
		l.add(line{string(s.rest[:whole]), s.name, l.details, now})
		s.rest = append(s.rest[:0], s.rest[whole:]...)
		if l.maxSize > 0 && l.size+int64(l.lines.Len()) >= l.maxSize {
			l.write()
		}
	}
	if l.lines.Len() > 0 {
		l.write()
	}
	return len(p), nil
}
