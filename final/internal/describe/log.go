//go:build linux

package describe

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/docker/go-units"

	"gocker/step01-pull/shared/advice"
)

// A LogDriver says where goes what a container writes.
type LogDriver struct {
	Name    string            // "json-file", also if empty, or "none"
	MaxSize int64             // bytes of a file; 0: as Sizes says; negative: it may grow for ever
	MaxFile int               // how many there are at most; 0: as Sizes says
	Options map[string]string `json:",omitempty"` // as the user gave them
}

// Sizes are the bytes of a file, and how many there are. If the user has chosen no size, they are those of docker's driver
// local: what a container writes may not fill the disk.
func (l LogDriver) Sizes() (bytes int64, files int) {
	if l.MaxSize == 0 {
		return 20 << 20, cmp.Or(l.MaxFile, 5)
	}
	return l.MaxSize, l.MaxFile
}

// instead is what to do in place of docker's other drivers.
var instead = map[string]string{
	"local":    "there are json-file and none; json-file keeps at most 100m, too",
	"journald": "there are json-file and none; for the journal: gocker logs -f CONTAINER | systemd-cat -t NAME",
	"syslog":   "there are json-file and none; for syslog: gocker logs -f CONTAINER | logger -t NAME",
}

// ParseLog reads --log-driver and --log-opt.
func ParseLog(driver string, options []string) (l LogDriver, err error) {
	if l.Name = driver; driver != "" && driver != "json-file" && driver != "none" {
		return l, advice.Add(fmt.Errorf("--log-driver %q: %w", driver, ErrOption), "%s", cmp.Or(instead[driver], "there are json-file and none"))
	}
	for _, option := range options {
		key, value, _ := strings.Cut(option, "=")
		if err = ErrOption; driver != "none" {
			err = l.set(key, value)
		}
		if err != nil {
			return l, advice.Add(fmt.Errorf("--log-opt %q: %w", option, err), "json-file has max-size, for example 10m, or -1 for no limit, max-file, a number, and labels, labels-regex, env, env-regex and tag for logs --details")
		}
		if l.Options == nil {
			l.Options = map[string]string{}
		}
		l.Options[key] = value
	}
	return l, nil
}

func (l *LogDriver) set(key, value string) (err error) {
	switch key {
	case "mode", "compress":
		if key+"="+value != "mode=blocking" && key+"="+value != "compress=false" { // so it is
			return ErrOption
		}
	case "max-size":
		if value == "-1" {
			l.MaxSize = -1
			return nil
		}
		if l.MaxSize, err = units.RAMInBytes(value); err == nil && l.MaxSize <= 0 {
			return ErrOption
		}
	case "max-file":
		if l.MaxFile, err = strconv.Atoi(value); err == nil && l.MaxFile <= 0 {
			return ErrOption
		}
	case "labels", "env":
	case "labels-regex", "env-regex":
		_, err = regexp.Compile(value)
	case "tag":
		_, err = l.tag(value, LogTag{})
	default:
		return ErrOption
	}
	return err
}

// A LogTag is what --log-opt tag=TEMPLATE may name, in docker's words.
type LogTag struct {
	ID, FullID, Name                string
	ImageID, ImageFullID, ImageName string
	Command                         string
}

func (LogDriver) tag(text string, of LogTag) (string, error) {
	t, err := template.New("tag").Parse(text)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	err = t.Execute(&out, of)
	return out.String(), err
}

// Details are those of each line of a container with these labels and this environment.
func (l LogDriver) Details(labels map[string]string, env []string, tag LogTag) map[string]string {
	details := map[string]string{}
	add := func(kind string, values map[string]string) {
		names := strings.Split(l.Options[kind], ",")
		pattern := l.Options[kind+"-regex"]
		like, err := regexp.Compile(pattern)
		for name, value := range values {
			if slices.Contains(names, name) || pattern != "" && err == nil && like.MatchString(name) {
				details[name] = value
			}
		}
	}
	add("labels", labels)
	variables := map[string]string{}
	for _, variable := range env {
		name, value, _ := strings.Cut(variable, "=")
		variables[name] = value
	}
	add("env", variables)
	if text := l.Options["tag"]; text != "" {
		if value, err := l.tag(text, tag); err == nil { // ParseLog has tried it
			details["tag"] = value
		}
	}
	return details
}
