//go:build linux

package describe

import (
	"cmp"
	"fmt"
	"log/syslog"
	"net"
	"net/url"
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
	Name    string            // one of LogDrivers; empty: json-file
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

// LogDrivers are those of docker's that there are. All but none have a log here, for gocker logs. What json-file and local call it
// is all that they differ in. The others also send each line to the programs that keep the logs of the machine, or of several.
var LogDrivers = []string{"json-file", "local", "journald", "syslog", "none"}

// logOptions are those that a driver has. "mode" is taken for all.
func logOptions(driver string) []string {
	named := []string{"labels", "labels-regex", "env", "env-regex", "tag"}
	switch driver {
	case "none":
		return nil
	case "journald":
		return named
	case "syslog":
		return append(named, "syslog-address", "syslog-facility")
	}
	return append(named, "max-size", "max-file", "compress")
}

// ParseLog reads --log-driver and --log-opt.
func ParseLog(driver string, options []string) (l LogDriver, err error) {
	if l.Name = driver; driver != "" && !slices.Contains(LogDrivers, driver) {
		return l, advice.Add(fmt.Errorf("--log-driver %q: %w", driver, ErrOption), "there are %s", strings.Join(LogDrivers, ", "))
	}
	for _, option := range options {
		key, value, _ := strings.Cut(option, "=")
		known := logOptions(driver)
		if err = ErrOption; slices.Contains(known, key) || key == "mode" && known != nil {
			err = l.set(key, value)
		}
		if err != nil {
			return l, advice.Add(fmt.Errorf("--log-opt %q: %w", option, err), "%s", logAdvice(cmp.Or(driver, "json-file")))
		}
		if l.Options == nil {
			l.Options = map[string]string{}
		}
		l.Options[key] = value
	}
	return l, nil
}

func logAdvice(driver string) string {
	const named = "labels, labels-regex, env, env-regex and tag"
	switch driver {
	case "none":
		return "none has no options"
	case "journald":
		return "journald has " + named
	case "syslog":
		return "syslog has syslog-address, for example udp://HOST:514, or unixgram:///dev/log, syslog-facility, " + named
	}
	return driver + " has max-size, for example 10m, or -1 for no limit, max-file, a number, and " + named + " for logs --details"
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
	case "syslog-address":
		_, _, err = SyslogAddress(value)
	case "syslog-facility":
		_, err = SyslogFacility(value)
	default:
		return ErrOption
	}
	return err
}

// SyslogAddress is where syslog listens, as net.Dial has it. An empty one is this machine's.
func SyslogAddress(text string) (network, address string, err error) {
	if text == "" {
		return "", "", nil
	}
	at, err := url.Parse(text)
	if err != nil {
		return "", "", err
	}
	switch at.Scheme {
	case "unix", "unixgram":
		return at.Scheme, at.Path, nil
	case "udp", "tcp":
		const port = "514" // RFC 5426
		return at.Scheme, net.JoinHostPort(at.Hostname(), cmp.Or(at.Port(), port)), nil
	}
	return "", "", ErrOption
}

// SyslogFacility reads the name of a facility, or its number: see syslog(3). An empty one is docker's choice.
func SyslogFacility(text string) (syslog.Priority, error) {
	names := strings.Fields("kern user mail daemon auth syslog lpr news uucp cron authpriv ftp . . . . local0 local1 local2 local3 local4 local5 local6 local7")
	number := slices.Index(names, cmp.Or(text, "daemon"))
	if number < 0 {
		var err error
		if number, err = strconv.Atoi(text); err != nil || number < 0 || number >= len(names) {
			return 0, ErrOption
		}
	}
	return syslog.Priority(number << 3), nil
}

// Tag is what the lines of a container are called where those of others are, too: as docker has it, its short id.
func (l LogDriver) Tag(of LogTag) (string, error) {
	return l.tag(cmp.Or(l.Options["tag"], "{{.ID}}"), of)
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
