//go:build linux

package logs

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"gocker/final/internal/tail"
)

// Options are the flags of "gocker logs".
type Options struct {
	Follow       bool
	Timestamps   bool
	Tail         int       // lines; negative: all
	Since, Until time.Time // zero: from the first, to the last
}

// A Reader shows the lines of a log, stdout and stderr apart.
type Reader struct {
	container      string // its folder
	opts           Options
	stdout, stderr io.Writer
	damaged        func(bytes int, err error)

	lines tail.Lines
	begun bool   // else it is not known yet which lines are the last of what there was
	kept  []line // until then
}

// NewReader reads the log of the container with this folder. Damaged lines are left out, and told.
func NewReader(folder string, opts Options, stdout, stderr io.Writer, damaged func(bytes int, err error)) *Reader {
	return &Reader{container: folder, opts: opts, stdout: stdout, stderr: stderr, damaged: damaged, begun: opts.Tail < 0}
}

// Close closes the file.
func (r *Reader) Close() { r.lines.Close() }

// Read shows all that there is, the next time all that has come since. found tells whether there is a log.
func (r *Reader) Read() (found bool, err error) {
	for {
		next, err := newer(Name(Folder(r.container)), r.lines.File)
		if err != nil {
			return false, err
		}
		if err := r.drain(); err != nil {
			return false, err
		}
		if next == nil {
			break
		}
		r.lines.Use(next)
	}
	for _, l := range r.kept {
		if err := r.show(l); err != nil {
			return false, err
		}
	}
	r.begun, r.kept = true, nil
	return r.lines.File != nil, nil
}

// drain reads the file to its end.
func (r *Reader) drain() error {
	for {
		raw, err := r.lines.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		var l line
		err = json.Unmarshal(raw, &l)
		switch {
		case err != nil:
			r.damaged(len(raw), err)
		case l.Time.Before(r.opts.Since) || !r.opts.Until.IsZero() && l.Time.After(r.opts.Until):
		case !r.begun:
			r.kept = append(r.kept, l)
			r.kept = r.kept[max(0, len(r.kept)-r.opts.Tail):]
		default:
			if err := r.show(l); err != nil {
				return err
			}
		}
	}
}

func (r *Reader) show(l line) error {
	out := r.stdout
	if l.Stream == "stderr" {
		out = r.stderr
	}
	if r.opts.Timestamps {
		l.Log = l.Time.Format(time.RFC3339Nano) + " " + l.Log
	}
	_, err := io.WriteString(out, l.Log)
	return err
}

// newer opens the file that was begun after read, or the oldest one if that is gone or nil. It is nil if there is none.
// From the current one back, each is held open while the next is looked for: names move on meanwhile, files do not.
func newer(current string, read *os.File) (newer *os.File, err error) {
	var last os.FileInfo
	if read != nil {
		if last, err = read.Stat(); err != nil {
			return nil, err
		}
	}
	for i := 0; ; i++ {
		f, err := os.Open(older(current, i))
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

// LastErrors are the last lines that the container with this folder wrote to its standard error, if it has a log.
func LastErrors(folder string, n int) (lines []string) {
	file, err := os.Open(Name(folder))
	if err != nil {
		return nil // it has no log
	}
	defer file.Close()
	const most = 64 << 10 // enough for some lines
	if info, err := file.Stat(); err == nil && info.Size() > most {
		file.Seek(-most, 2)
	}
	end := make([]byte, most)
	read, _ := file.Read(end)
	for raw := range bytes.Lines(end[:max(read, 0)]) {
		var l line
		if json.Unmarshal(raw, &l) == nil && l.Stream == "stderr" {
			lines = append(lines, strings.TrimRight(l.Log, "\r\n"))
		}
	}
	return lines[max(0, len(lines)-n):]
}
