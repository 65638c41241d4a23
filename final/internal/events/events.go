//go:build linux

// Package events holds what happened to containers, images and volumes, as docker tells it.
package events

import (
	"encoding/json"
	"errors"
	"fmt"
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

// The file of the events, below the run folder. Each is a line that is appended by one write(2), so no lock is needed:
// see O_APPEND in open(2). When it is large it becomes the old one.
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
	const how = os.O_WRONLY | os.O_APPEND | os.O_CREATE
	f, err := os.OpenFile(name, how, 0o600)
	if errors.Is(err, os.ErrNotExist) && os.MkdirAll(l.Dirs.Run, 0o700) == nil { // no container has ever been here
		f, err = os.OpenFile(name, how, 0o600)
	}
	if err != nil {
		return
	}
	defer f.Close()
	f.Write(append(line, '\n'))
	if info, err := f.Stat(); err == nil && info.Size() > most {
		l.turn(name, info)
	}
}

// turn makes the file of the events the old one, if nobody else has done so.
func (l Log) turn(name string, full os.FileInfo) {
	lock, err := os.Open(l.Dirs.Run)
	if err != nil {
		return
	}
	defer lock.Close()
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return
	}
	if now, err := os.Stat(name); err == nil && os.SameFile(now, full) {
		os.Rename(name, filepath.Join(l.Dirs.Run, oldName))
	}
}

// Read calls show for each event from since to until, as they come. A zero since is now; a zero until is never.
func (l Log) Read(since, until time.Time, show func(Event) error) error {
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
					return fmt.Errorf("read %q: %w", file, err)
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
	})
	return status, ok
}
