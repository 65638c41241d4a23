//go:build linux

package engine

import (
	"bufio"
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

	"gocker/step03-layers/layers"
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

// The file of the events, below the run folder. Each is a line that is appended by one write(2), so no lock is needed:
// see O_APPEND in open(2). When it is large it becomes the old one.
const (
	eventsName    = "events.json"
	oldEventsName = "events.old.json"
	mostEvents    = 16 << 20 // bytes
)

// event notes what happens to a container.
func (e Engine) event(action string, s State, attributes ...string) {
	e.note("container", action, s.ID, s.Annotations, append([]string{"image", s.Image, "name", s.Name}, attributes...)...)
}

// imageEvent notes what happens to an image. To registries and who pulls it is known by a name, to all others by its digest.
func (e Engine) imageEvent(action string, img layers.Image, id, name string) {
	e.note("image", action, id, img.Config.Config.Labels, "name", name)
}

// volumeEvents note that a container begins or ends to have its volumes.
func (c *container) volumeEvents(action string) {
	points, _ := c.mountPoints(c.state, c.spec)
	for _, p := range points {
		switch {
		case p.Type != "volume":
		case action == "mount":
			c.note("volume", action, p.Name, nil, "container", c.state.ID, "destination", p.Destination, "driver", p.Driver,
				"propagation", string(p.Propagation), "read/write", strconv.FormatBool(p.RW))
		default:
			c.note("volume", action, p.Name, nil, "container", c.state.ID, "driver", p.Driver)
		}
	}
}

// note writes an event down. A full disk does not stop what it tells of.
func (e Engine) note(kind, action, id string, labels map[string]string, attributes ...string) {
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
	name := filepath.Join(e.Dirs.Run, eventsName)
	const how = os.O_WRONLY | os.O_APPEND | os.O_CREATE
	f, err := os.OpenFile(name, how, 0o600)
	if errors.Is(err, os.ErrNotExist) && os.MkdirAll(e.Dirs.Run, 0o700) == nil { // no container has ever been here
		f, err = os.OpenFile(name, how, 0o600)
	}
	if err != nil {
		return
	}
	defer f.Close()
	f.Write(append(line, '\n'))
	if info, err := f.Stat(); err == nil && info.Size() > mostEvents {
		e.turnEvents(name, info)
	}
}

// turnEvents makes the file of the events the old one, if nobody else has done so.
func (e Engine) turnEvents(name string, full os.FileInfo) {
	lock, err := os.Open(e.Dirs.Run)
	if err != nil {
		return
	}
	defer lock.Close()
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return
	}
	if now, err := os.Stat(name); err == nil && os.SameFile(now, full) {
		os.Rename(name, filepath.Join(e.Dirs.Run, oldEventsName))
	}
}

// Events calls show for each event from since to until, as they come. A zero since is now; a zero until is never.
func (e Engine) Events(since, until time.Time, show func(Event) error) error {
	name := filepath.Join(e.Dirs.Run, eventsName)
	files := []string{name}
	if since.IsZero() {
		since = time.Now()
	} else {
		files = []string{filepath.Join(e.Dirs.Run, oldEventsName), name}
	}
	var lines tail
	defer lines.close()
	for _, file := range files {
		if err := lines.open(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		for {
			now, moved := time.Now(), lines.moved(file)
			for {
				line, err := lines.next()
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
				time.Sleep(pollTime)
			} else if err := lines.open(file); err != nil {
				return err
			}
		}
	}
	return nil
}

// exitCode looks up how a container ended that is gone.
func (e Engine) exitCode(id string) (status int, ok bool) {
	e.Events(time.Unix(1, 0), time.Now(), func(event Event) error {
		if event.Actor.ID == id && event.Action == "die" {
			status, _ = strconv.Atoi(event.Actor.Attributes["exitCode"])
			ok = true
		}
		return nil
	})
	return status, ok
}

// pollTime is how often files are looked at that others write to.
const pollTime = 50 * time.Millisecond

// A tail reads the lines of a file that others append to, and that may be replaced by a new one.
type tail struct {
	file   *os.File
	reader *bufio.Reader
	rest   []byte // of a line that is not complete
}

// open goes on with another file.
func (t *tail) open(name string) error {
	t.close()
	f, err := os.Open(name)
	if err == nil {
		t.read(f)
	}
	return err
}

// read goes on with a file that is open, and is closed with t.
func (t *tail) read(f *os.File) {
	t.close()
	t.file, t.reader = f, bufio.NewReader(f)
}

// next returns the next line, with its newline. io.EOF says that it is not there yet.
func (t *tail) next() ([]byte, error) {
	if t.file == nil {
		return nil, io.EOF
	}
	piece, err := t.reader.ReadBytes('\n')
	t.rest = append(t.rest, piece...)
	if err != nil {
		return nil, err
	}
	line := t.rest
	t.rest = nil
	return line, nil
}

// moved tells whether the name is now another file's. Then what this one has is all that it will have.
func (t *tail) moved(name string) bool {
	now, err := os.Stat(name)
	if err != nil || t.file == nil {
		return err == nil
	}
	before, err := t.file.Stat()
	return err == nil && !os.SameFile(now, before)
}

func (t *tail) close() {
	if t.file != nil {
		t.file.Close()
		t.file = nil
	}
}
