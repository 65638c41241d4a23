//go:build linux

// Package events holds what happened to containers, images, volumes and networks, as docker tells it.
package events

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"gocker/final/internal/tail"
	"gocker/step01-pull/shared/dirs"
)

// An Event is something that happened to a container, an image or a volume, in docker's words and form.
type Event struct {
	Type, Action string
	Actor        Actor
	Scope        string `json:"scope"`
	Time         int64  `json:"time"` // seconds since 1970
	TimeNano     int64  `json:"timeNano"`
}

// An Actor is what it happened to.
type Actor struct {
	ID         string
	Attributes map[string]string
}

// A Log is the events of one pair of folders.
type Log struct{ Dirs dirs.Dirs }

// The file of the events, a line each, below the run folder. A command that writes to it holds a lock on it. When it is large it becomes the
// old one.
const (
	fileName = "events.json"
	oldName  = "events.old.json"
	most     = 16 << 20 // bytes
)

// Note writes an event down. A full disk does not stop what it tells of.
func (l Log) Note(kind, action, id string, labels map[string]string, attributes ...string) {
	now := time.Now()
	event := Event{kind, action, Actor{id, map[string]string{}}, "local", now.Unix(), now.UnixNano()}
	maps.Copy(event.Actor.Attributes, labels)
	for i := 0; i+1 < len(attributes); i += 2 {
		event.Actor.Attributes[attributes[i]] = attributes[i+1]
	}
	line, err := json.Marshal(event)
	if err != nil {
		return
	}
	name := filepath.Join(l.Dirs.Run, fileName)
	const how = os.O_RDWR | os.O_APPEND | os.O_CREATE
	f, err := os.OpenFile(name, how, 0o600)
	if errors.Is(err, os.ErrNotExist) && os.MkdirAll(l.Dirs.Run, 0o700) == nil { // no container has ever been here
		f, err = os.OpenFile(name, how, 0o600)
	}
	if err != nil {
		return
	}
	defer f.Close()
	for err = unix.EINTR; err == unix.EINTR; {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		return
	}
	size, _ := tail.Append(f, append(line, '\n'))
	if size < most {
		reserve(f, size)
		return
	}
	full, err := f.Stat()
	if err != nil {
		return
	}
	if now, err := os.Stat(name); err == nil && os.SameFile(now, full) { // else somebody else has done so
		os.Rename(name, filepath.Join(l.Dirs.Run, oldName))
	}
}

// reserve sees to it that some more events can be written when the disk is full: those of the containers that end then.
func reserve(f *os.File, size int64) {
	const room = 64 << 10 // bytes
	var stat unix.Stat_t
	if unix.Fstat(int(f.Fd()), &stat) == nil && stat.Blocks*512 < size+room/2 {
		unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, size, room) // not every file system can
	}
}

// Read calls show for each event from since to until, as they come. A zero since is now; a zero until is never. What is
// damaged it leaves out, and says so.
func (l Log) Read(since, until time.Time, show func(Event) error, say func(format string, args ...any)) error {
	name := filepath.Join(l.Dirs.Run, fileName)
	files := []string{name}
	if since.IsZero() {
		since = time.Now()
	} else {
		files = []string{filepath.Join(l.Dirs.Run, oldName), name}
	}
	var lines tail.Lines
	defer lines.Close()
	for _, file := range files {
		if err := lines.Open(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for {
			now, moved := time.Now(), lines.Moved(file)
			for {
				line, err := lines.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					return err
				}
				var event Event
				if err := json.Unmarshal(line, &event); err != nil {
					say("Left out %d bytes of %q, which are damaged: %v", len(line), file, err)
					continue
				}
				at := time.Unix(0, event.TimeNano)
				if at.Before(since) || !until.IsZero() && at.After(until) {
					continue
				}
				if err := show(event); err != nil {
					return err
				}
			}
			if file != name || !until.IsZero() && now.After(until) {
				break
			}
			if !moved {
				time.Sleep(tail.PollTime)
			} else if err := lines.Open(file); err != nil {
				return err
			}
		}
	}
	return nil
}

// ExitCode looks up how a container ended that is gone.
func (l Log) ExitCode(id string) (status int, ok bool) {
	l.Read(time.Unix(1, 0), time.Now(), func(event Event) error {
		if event.Actor.ID == id && event.Action == "die" {
			status, _ = strconv.Atoi(event.Actor.Attributes["exitCode"])
			ok = true
		}
		return nil
	}, func(string, ...any) {})
	return status, ok
}
