//go:build linux

package images

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	docker "github.com/moby/moby/api/types/container"

	"gocker/step01-pull/shared/dirs"
	"gocker/step03-layers/layers"
)

// A Config is an image's config. v1.Config does not know a health check's start interval, which docker has added later.
type Config struct {
	v1.Config
	Healthcheck *docker.HealthConfig `json:",omitempty"`
}

// A ConfigFile is an image's config with all around it.
type ConfigFile struct {
	*v1.ConfigFile
	Config Config `json:"config"`
}

// Config is the config of an image that is here.
func (s Store) Config(img layers.Image) (Config, error) {
	c := Config{Config: img.Config.Config}
	if c.Config.Healthcheck == nil {
		return c, nil
	}
	var file struct {
		Config struct{ Healthcheck *docker.HealthConfig } `json:"config"`
	}
	raw, err := layers.ReadInside(s.Dirs.Image(img.ID), img.Digest+".json")
	if err == nil {
		err = dirs.ParseJSON(raw, &file)
	}
	c.Healthcheck = file.Config.Healthcheck
	return c, err
}

// ProbeOf is a health check's Test: a command, as a list of words in JSON, or as a line for the shell.
func ProbeOf(text string) []string {
	if words, isList := wordsOf(text); isList {
		return append([]string{"CMD"}, words...)
	}
	return []string{"CMD-SHELL", text}
}

// parseHealthcheck reads what stands behind HEALTHCHECK: NONE, or options and CMD with a command.
func parseHealthcheck(text string) (*docker.HealthConfig, error) {
	h := &docker.HealthConfig{}
	for strings.HasPrefix(text, "--") {
		option, rest, _ := strings.Cut(text, " ")
		name, value, _ := strings.Cut(option, "=")
		var err error
		switch name {
		case "--interval":
			h.Interval, err = time.ParseDuration(value)
		case "--timeout":
			h.Timeout, err = time.ParseDuration(value)
		case "--start-period":
			h.StartPeriod, err = time.ParseDuration(value)
		case "--start-interval":
			h.StartInterval, err = time.ParseDuration(value)
		case "--retries":
			h.Retries, err = strconv.Atoi(value)
		default:
			err = errors.New("there are --interval, --timeout, --start-period, --start-interval and --retries")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", option, err)
		}
		text = strings.TrimSpace(rest)
	}
	kind, command, _ := strings.Cut(text, " ")
	switch command = strings.TrimSpace(command); {
	case strings.EqualFold(kind, "NONE") && command == "":
		return &docker.HealthConfig{Test: []string{"NONE"}}, nil
	case strings.EqualFold(kind, "CMD") && command != "":
		h.Test = ProbeOf(command)
		return h, CheckHealth(h)
	}
	return nil, errors.New("want NONE, or CMD and a command")
}

// CheckHealth finds what is wrong with the numbers of a health check. Zero is docker's default, and no time is shorter than
// a millisecond.
func CheckHealth(h *docker.HealthConfig) error {
	for _, t := range []struct {
		name string
		time time.Duration
	}{{"interval", h.Interval}, {"timeout", h.Timeout}, {"start period", h.StartPeriod}, {"start interval", h.StartInterval}} {
		if t.time != 0 && t.time < time.Millisecond {
			return fmt.Errorf("health check: the %s is %s, want at least 1ms", t.name, t.time)
		}
	}
	if h.Retries < 0 {
		return fmt.Errorf("health check: %d retries, want a positive number", h.Retries)
	}
	return nil
}
