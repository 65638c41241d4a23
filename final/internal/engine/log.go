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
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"

	"gocker/step01-pull/advice"
	"gocker/step01-pull/dirs"
)

// logName is the file in a container's folder with what it wrote: a JSON object a line, as docker's json-file has it.
// One that is full becomes log.json.1, that one log.json.2, and so on.
const logName = "log.json"

// A LogDriver says where goes what a container writes.
type LogDriver struct {
	Name    string // "json-file", also if empty, or "none"
	MaxSize int64  // bytes of a file; 0: it may grow for ever
	MaxFile int    // how many there are at most; 0 is 1
}

// ParseLog reads --log-driver and --log-opt.
func ParseLog(driver string, options []string) (l LogDriver, err error) {
	if l.Name = driver; driver != "" && driver != "json-file" && driver != "none" {
		return l, advice.Add(fmt.Errorf("--log-driver %q: %w", driver, ErrOption), "there are json-file and none")
	}
	for _, option := range options {
		key, value, _ := strings.Cut(option, "=")
		switch {
		case key == "max-size" && driver != "none":
			l.MaxSize, err = units.RAMInBytes(value)
		case key == "max-file" && driver != "none":
			l.MaxFile, err = strconv.Atoi(value)
		default:
			err = ErrOption
		}
		if err != nil || l.MaxSize < 0 || l.MaxFile < 0 {
			return l, advice.Add(fmt.Errorf("--log-opt %q: %w", option, errors.Join(err)), "json-file has max-size, for example 10m, and max-file, a number")
		}
	}
	return l, nil
}

type logLine struct {
	Log    string    `json:"log"` // a line with its newline, or the piece of a long one
	Stream string    `json:"stream"`
	Time   time.Time `json:"time"`
}

// A log is open for writing.
type log struct {
	driver LogDriver
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
	if l.file, err = os.OpenFile(l.name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return err
	}
	info, err := l.file.Stat()
	if err == nil {
		l.size = info.Size()
	}
	return err
}

// write writes all lines at once. A disk that is full does not stop the container: what does not fit is lost.
func (l *log) write() {
	n, _ := l.file.Write(l.lines.Bytes())
	l.lines.Reset()
	if l.size += int64(n); l.driver.MaxSize > 0 && l.size >= l.driver.MaxSize {
		l.turn()
	}
}

// turn begins a new file. Who reads the old one still has it.
func (l *log) turn() {
	for i := l.driver.MaxFile - 1; i > 0; i-- {
		from := l.name
		if i > 1 {
			from = fmt.Sprintf("%s.%d", l.name, i-1)
		}
		os.Rename(from, fmt.Sprintf("%s.%d", l.name, i)) // one that is not there yet
	}
	if l.driver.MaxFile < 2 {
		os.Remove(l.name)
	}
	old := l.file
	if l.open() == nil {
		old.Close()
	} else {
		l.file = old
	}
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

// Logs writes what a container wrote, stdout and stderr apart; with Follow, until it ends.
func (e Engine) Logs(name string, opts LogOptions, stdout, stderr io.Writer) error {
	s, err := e.find(name)
	if err != nil {
		return err
	}
	folder := e.Dirs.Container(s.ID)
	current := filepath.Join(folder, logName)
	files := []string{current}
	for i := 1; ; i++ {
		older := fmt.Sprintf("%s.%d", current, i)
		if _, err := os.Stat(older); err != nil {
			break
		}
		files = append([]string{older}, files...)
	}
	var lines tail
	defer lines.close()
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
			raw, err := lines.next()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			var line logLine
			if err := json.Unmarshal(raw, &line); err != nil {
				return fmt.Errorf("read the log of %s: %w", name, err)
			}
			switch {
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
	for _, file := range files[:len(files)-1] {
		if lines.open(file) == nil { // it may have become an older one: then it was read
			if err := drain(); err != nil {
				return err
			}
		}
	}
	err = lines.open(current)
	switch {
	case errors.Is(err, os.ErrNotExist) && neverRan(s):
	case errors.Is(err, os.ErrNotExist):
		return advice.Add(fmt.Errorf("container %s has no log", name), "those have none that were started with --log-driver none, or in the foreground with --rm")
	case err != nil:
		return err
	}
	for {
		// Ask before reading: what is written after its end is not there to be read.
		running, moved := isLocked(folder), lines.moved(current)
		if err := drain(); err != nil {
			return err
		}
		for _, line := range kept {
			if err := emit(line); err != nil {
				return err
			}
		}
		history, kept = false, nil
		switch {
		case moved:
			if err := lines.open(current); err != nil {
				return err
			}
		case !opts.Follow || !running && !neverRan(s) || !opts.Until.IsZero() && time.Now().After(opts.Until):
			return nil
		default:
			time.Sleep(pollTime)
			if neverRan(s) { // its first start is still to come
				if s, err = e.find(s.ID); err != nil {
					return nil
				}
			}
		}
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
