//go:build linux

package engine

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"gocker/final/internal/describe"
	"gocker/final/internal/tail"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
)

// logName is the file in a container's folder with what it wrote: a JSON object a line, as docker's json-file has it.
// One that is full becomes log.json.1, that one log.json.2, and so on.
const logName = "log.json"

type logLine struct {
	Log    string    `json:"log"` // a line with its newline, or the piece of a long one
	Stream string    `json:"stream"`
	Time   time.Time `json:"time"`
}

// A log is open for writing.
type log struct {
	driver describe.LogDriver
	name   string

	mu      sync.Mutex
	file    *os.File
	size    int64
	lines   bytes.Buffer // that are to be written
	encoder *json.Encoder
	streams []*logStream
}

// openLog opens a container's log, to write behind what there is. It is nil if the container has none.
func (c *container) openLog() (*log, error) {
	l := &log{driver: c.state.Options.Log, name: filepath.Join(c.fs.Dir, logName)}
	if l.driver.Name == "none" {
		return nil, nil
	}
	l.encoder = json.NewEncoder(&l.lines)
	l.encoder.SetEscapeHTML(false)
	return l, l.open()
}

func (l *log) open() (err error) {
	if l.file, err = os.OpenFile(l.name, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600); err != nil {
		return err
	}
	info, err := l.file.Stat()
	if err == nil {
		l.size = info.Size()
	}
	return err
}

// write writes all lines at once. A disk that is full does not stop the container: lines that do not fit are lost.
func (l *log) write() {
	l.size, _ = tail.Append(l.file, l.lines.Bytes())
	l.lines.Reset()
	if l.driver.MaxSize > 0 && l.size >= l.driver.MaxSize {
		l.turn()
	}
}

// turn begins a new file. Who reads the old one still has it. At no moment a name is missing, as a reader would take that
// for the end: files get their next name by a link.
func (l *log) turn() {
	next, err := os.OpenFile(l.name+".next", os.O_CREATE|os.O_TRUNC|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return // it goes on with the one that it has
	}
	link := l.name + ".link"
	os.Remove(link) // a crash has left it
	for i := l.driver.MaxFile - 1; i > 0; i-- {
		if os.Link(olderLog(l.name, i-1), link) == nil { // one that is there
			os.Rename(link, olderLog(l.name, i))
		}
	}
	os.Rename(next.Name(), l.name)
	l.file.Close()
	l.file, l.size = next, 0
}

// olderLog is the name of the i-th file before the current one.
func olderLog(name string, i int) string {
	if i == 0 {
		return name
	}
	return fmt.Sprintf("%s.%d", name, i)
}

func (l *log) stream(name string) io.Writer {
	s := &logStream{log: l, name: name}
	l.streams = append(l.streams, s)
	return s
}

// flush writes what came last without a newline, when the streams have ended.
func (l *log) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.streams {
		if len(s.rest) > 0 {
			l.encoder.Encode(logLine{string(s.rest), s.name, time.Now().UTC()})
		}
	}
	l.write()
	l.streams = nil
}

// A logStream is one of the two outputs. It holds back what has no newline yet, up to 16 KiB, docker's limit.
type logStream struct {
	log  *log
	name string
	rest []byte
}

const mostOfLine = 16 << 10

// Write does not fail.
func (s *logStream) Write(p []byte) (int, error) {
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
		l.encoder.Encode(logLine{string(s.rest), s.name, now})
		s.rest = s.rest[:0]
		if l.driver.MaxSize > 0 && l.size+int64(l.lines.Len()) >= l.driver.MaxSize {
			l.write()
		}
	}
	if l.lines.Len() > 0 {
		l.write()
	}
	return len(p), nil
}

// LogOptions are the flags of "gocker logs".
type LogOptions struct {
	Follow       bool
	Timestamps   bool
	Tail         int       // lines; negative: all
	Since, Until time.Time // zero: from the first, to the last
}

// Logs writes what a container wrote, stdout and stderr apart; with Follow, until it ends. What is damaged it leaves out, and
// says so.
func (e Engine) Logs(name string, opts LogOptions, stdout, stderr io.Writer, say func(format string, args ...any)) error {
	s, err := e.find(name)
	if err != nil {
		return err
	}
	folder := e.Dirs.Container(s.ID)
	current := filepath.Join(folder, logName)
	var lines tail.Lines
	defer lines.Close()
	var kept []logLine
	emit := func(line logLine) error {
		out := stdout
		if line.Stream == "stderr" {
			out = stderr
		}
		if opts.Timestamps {
			line.Log = line.Time.Format(time.RFC3339Nano) + " " + line.Log
		}
		_, err := io.WriteString(out, line.Log)
		return err
	}
	history := opts.Tail >= 0 // as long as it is, lines are kept
	drain := func() error {
		for {
			raw, err := lines.Next()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			var line logLine
			err = json.Unmarshal(raw, &line)
			switch {
			case err != nil:
				say("Left out %d bytes of the log of %s, which are damaged: %v", len(raw), name, err)
			case line.Time.Before(opts.Since) || !opts.Until.IsZero() && line.Time.After(opts.Until):
			case history:
				kept = append(kept, line)
				kept = kept[max(0, len(kept)-opts.Tail):]
			default:
				if err := emit(line); err != nil {
					return err
				}
			}
		}
	}
	for {
		// Ask before reading: what is written after its end is not there to be read.
		running := isLocked(folder)
		newer, err := newerLog(current, lines.File)
		if err != nil {
			return err
		}
		if err := drain(); err != nil {
			return err
		}
		if newer != nil {
			lines.Use(newer)
			continue
		}
		if lines.File == nil && !neverRan(s) {
			return advice.Add(fmt.Errorf("container %s has no log", name), "those have none that were started with --log-driver none, or in the foreground with --rm")
		}
		for _, line := range kept {
			if err := emit(line); err != nil {
				return err
			}
		}
		history, kept = false, nil
		if !opts.Follow || !running && !neverRan(s) || !opts.Until.IsZero() && time.Now().After(opts.Until) {
			return nil
		}
		time.Sleep(tail.PollTime)
		if neverRan(s) { // its first start is still to come
			if s, err = e.find(s.ID); err != nil {
				return nil
			}
		}
	}
}

// newerLog opens the file that was begun after read, or the oldest one if that is gone or nil. It is nil if there is none.
// From the current one back, each is held open while the next is looked for: names move on meanwhile, files do not.
func newerLog(current string, read *os.File) (newer *os.File, err error) {
	var last os.FileInfo
	if read != nil {
		if last, err = read.Stat(); err != nil {
			return nil, err
		}
	}
	for i := 0; ; i++ {
		f, err := os.Open(olderLog(current, i))
		if errors.Is(err, os.ErrNotExist) {
			return newer, nil
		}
		if err != nil {
			return newer, err
		}
		info, err := f.Stat()
		if err != nil || last != nil && os.SameFile(info, last) {
			f.Close()
			return newer, err
		}
		if newer != nil {
			newer.Close()
		}
		newer = f
	}
}

// neverRan tells whether a container's first start is still to come.
func neverRan(s State) bool { return s.Started.IsZero() }

// isLocked tells whether a container's gocker is alive.
func isLocked(folder string) bool {
	lock, err := dirs.TryLock(folder)
	if err == nil {
		lock.Close()
	}
	return errors.Is(err, dirs.ErrLocked)
}
