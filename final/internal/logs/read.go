//go:build linux

package logs

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"gocker/final/internal/filter"
	"gocker/final/internal/tail"
)

// Options are the flags of "gocker logs".
type Options struct {
	Follow       bool
	Timestamps   bool
	Details      bool
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
	last  map[string]wanted // of each output
	begun bool              // else it is not known yet which lines are the last of what there was
	kept  []*kept           // until then
}

// A long line is in pieces, between which the other output may have written. It is wanted if its first piece is.
type wanted struct {
	piece line
	is    bool
	kept  *kept
}

// kept are the pieces of a line that may be among the last.
type kept struct{ pieces []line }

// NewReader reads the log of the container with this folder. Damaged lines are left out, and told.
func NewReader(folder string, opts Options, stdout, stderr io.Writer, damaged func(bytes int, err error)) *Reader {
	return &Reader{
		container: folder, opts: opts, stdout: stdout, stderr: stderr, damaged: damaged, begun: opts.Tail < 0, last: map[string]wanted{},
	}
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
	for _, k := range r.kept {
		for i, piece := range k.pieces {
			if err := r.show(piece, i == 0); err != nil {
				return false, err
			}
		}
	}
	for output, last := range r.last {
		if last.kept != nil && !slices.Contains(r.kept, last.kept) { // nor what is still to come of that line
			last.is = false
			r.last[output] = last
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
		if err = json.Unmarshal(raw, &l); err != nil {
			r.damaged(len(raw), err)
		} else if err := r.take(l); err != nil {
			return err
		}
	}
}

// take shows a line or a piece of one, or keeps it, if it is wanted.
func (r *Reader) take(l line) error {
	now := r.last[l.Stream]
	first := !now.piece.goesOn()
	if first {
		now = wanted{is: !l.Time.Before(r.opts.Since) && (r.opts.Until.IsZero() || !l.Time.After(r.opts.Until))}
		if now.is && !r.begun {
			now.kept = new(kept)
			r.kept = append(r.kept, now.kept)
			r.kept = r.kept[max(0, len(r.kept)-r.opts.Tail):]
		}
	}
	now.piece = l
	r.last[l.Stream] = now
	switch {
	case !now.is:
		return nil
	case !r.begun:
		now.kept.pieces = append(now.kept.pieces, l)
		return nil
	}
	return r.show(l, first)
}

func (r *Reader) show(l line, first bool) error {
	out := r.stdout
	if l.Stream == "stderr" {
		out = r.stderr
	}
	if r.opts.Details && first {
		var details []string
		for _, key := range slices.Sorted(maps.Keys(l.Details)) {
			details = append(details, url.QueryEscape(key)+"="+url.QueryEscape(l.Details[key]))
		}
		l.Log = strings.Join(details, ",") + " " + l.Log
	}
	if r.opts.Timestamps && first {
		l.Log = l.Time.Format(filter.Nanoseconds) + " " + l.Log
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
	goesOn := false
	for raw := range bytes.Lines(end[:max(read, 0)]) {
		var l line
		if json.Unmarshal(raw, &l) != nil || l.Stream != "stderr" {
			continue
		}
		text := strings.TrimRight(l.Log, "\r\n")
		if goesOn {
			lines[len(lines)-1] += text
		} else {
			lines = append(lines, text)
		}
		goesOn = l.goesOn()
	}
	return lines[max(0, len(lines)-n):]
}
