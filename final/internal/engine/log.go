//go:build linux

package engine

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gocker/step01-pull/advice"
	"gocker/step01-pull/dirs"
)

// logName is the file in a container's folder with what it wrote: a JSON object a line, as docker's json-file has it.
const logName = "log.json"

type logLine struct {
	Log    string    `json:"log"` // a line with its newline, or the piece of a long one
	Stream string    `json:"stream"`
	Time   time.Time `json:"time"`
}

type log struct {
	mu      sync.Mutex
	encoder *json.Encoder
	file    *os.File
	streams []*logStream
}

func createLog(folder string) (*log, error) {
	file, err := os.OpenFile(filepath.Join(folder, logName), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &log{file: file, encoder: json.NewEncoder(file)}, nil
}

func (l *log) write(stream string, line []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.encoder.Encode(logLine{string(line), stream, time.Now()})
}

func (l *log) stream(name string) io.Writer {
	s := &logStream{log: l, name: name}
	l.streams = append(l.streams, s)
	return s
}

// flush writes what came last without a newline, when the streams have ended.
func (l *log) flush() (err error) {
	for _, s := range l.streams {
		if len(s.rest) > 0 {
			err = errors.Join(err, l.write(s.name, s.rest))
		}
	}
	l.streams = nil
	return err
}

// A logStream is one of the two outputs. It holds back what has no newline yet, up to 16 KiB, docker's limit.
type logStream struct {
	log  *log
	name string
	rest []byte
}

func (s *logStream) Write(p []byte) (int, error) {
	s.rest = append(s.rest, p...)
	for {
		end := bytes.IndexByte(s.rest, '\n') + 1
		if end == 0 && len(s.rest) < 16<<10 {
			return len(p), nil
		}
		if end == 0 || end > 16<<10 {
			end = 16 << 10
		}
		if err := s.log.write(s.name, s.rest[:end]); err != nil {
			return 0, err
		}
		s.rest = s.rest[end:]
	}
}

// LogOptions are the flags of "gocker logs".
type LogOptions struct {
	Follow     bool
	Timestamps bool
	Tail       int // lines; negative: all
}

// Logs writes what a detached container wrote, stdout and stderr apart; with Follow, until it ends.
func (e Engine) Logs(name string, opts LogOptions, stdout, stderr io.Writer) error {
	s, err := e.find(name)
	if err != nil {
		return err
	}
	folder := e.Dirs.Container(s.ID)
	file, err := os.Open(filepath.Join(folder, logName))
	if errors.Is(err, os.ErrNotExist) {
		return advice.Add(fmt.Errorf("container %s has no log", name), "only those that were started with run -d write one")
	}
	if err != nil {
		return err
	}
	defer file.Close()
	reader := bufio.NewReader(file)
	var kept [][]byte
	emit := func(raw []byte) error {
		var line logLine
		if err := json.Unmarshal(raw, &line); err != nil {
			return fmt.Errorf("read %q: %w", file.Name(), err)
		}
		out := stdout
		if line.Stream == "stderr" {
			out = stderr
		}
		if opts.Timestamps {
			fmt.Fprintf(out, "%s ", line.Time.Format(time.RFC3339Nano))
		}
		_, err := io.WriteString(out, line.Log)
		return err
	}
	history, rest := true, []byte(nil)
	for {
		// Ask before reading: what is written after its end is not there to be read.
		running := s.Status == specs.StateRunning && isLocked(folder)
		for {
			piece, err := reader.ReadBytes('\n')
			rest = append(rest, piece...)
			if err == io.EOF {
				break // maybe in the middle of a line that is being written
			}
			if err != nil {
				return err
			}
			if history && opts.Tail >= 0 {
				kept = append(kept, rest)
				kept = kept[max(0, len(kept)-opts.Tail):]
			} else if err := emit(rest); err != nil {
				return err
			}
			rest = nil
		}
		for _, raw := range kept {
			if err := emit(raw); err != nil {
				return err
			}
		}
		history, kept = false, nil
		if !opts.Follow || !running {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// isLocked tells whether a container's gocker is alive.
func isLocked(folder string) bool {
	lock, err := dirs.TryLock(folder)
	if err == nil {
		lock.Close()
	}
	return errors.Is(err, dirs.ErrLocked)
}
