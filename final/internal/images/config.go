//go:build linux

package images

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"strings"

	"github.com/google/shlex"

	"gocker/step01-pull/shared/advice"
)

// ErrChange says that a line does not describe a change of an image's config.
var ErrChange = errors.New("not a change of a config")

// Change is what a line of a Dockerfile does to a config: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, STOPSIGNAL, USER,
// VOLUME or WORKDIR. See https://docs.docker.com/reference/dockerfile/.
func Change(config *Config, line string) error {
	keyword, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	err := errors.New("nothing stands behind the first word")
	switch rest = strings.TrimSpace(rest); {
	case rest == "":
	case strings.EqualFold(keyword, "HEALTHCHECK"):
		config.Healthcheck, err = parseHealthcheck(rest)
	default:
		err = change(config, keyword, rest)
	}
	if err != nil {
		return advice.Add(fmt.Errorf("%w: %q: %w", ErrChange, line, err),
			"a change is a line of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR")
	}
	return nil
}

func change(config *Config, keyword, rest string) error {
	words, err := shlex.Split(rest)
	if err != nil {
		return err
	}
	switch strings.ToUpper(keyword) {
	case "CMD":
		config.Cmd = command(rest)
	case "ENTRYPOINT":
		config.Entrypoint = command(rest)
	case "ENV":
		pairs, err := parsePairs(words, rest)
		if err != nil {
			return err
		}
		for _, pair := range pairs {
			config.Env = append(config.Env, pair[0]+"="+pair[1])
		}
		config.Env = LastOfEach(config.Env)
	case "LABEL":
		pairs, err := parsePairs(words, rest)
		if err != nil {
			return err
		}
		config.Labels = maps.Clone(config.Labels)
		for _, pair := range pairs {
			config.Labels = put(config.Labels, pair[0], pair[1])
		}
	case "EXPOSE":
		for _, port := range words {
			if !strings.Contains(port, "/") {
				port += "/tcp"
			}
			config.ExposedPorts = put(config.ExposedPorts, port, struct{}{})
		}
	case "VOLUME":
		if json.Unmarshal([]byte(rest), &words) != nil {
			words, _ = shlex.Split(rest)
		}
		for _, folder := range words {
			config.Volumes = put(config.Volumes, folder, struct{}{})
		}
	case "STOPSIGNAL":
		config.StopSignal = rest
	case "USER":
		config.User = rest
	case "WORKDIR":
		if !path.IsAbs(rest) {
			rest = path.Join("/", config.WorkingDir, rest)
		}
		config.WorkingDir = path.Clean(rest)
	default:
		return errors.New("there is no " + keyword)
	}
	return nil
}

func put[K comparable, T any](m map[K]T, key K, value T) map[K]T {
	if m == nil {
		m = map[K]T{}
	}
	m[key] = value
	return m
}

// command is a list of words in JSON, or a line for the shell.
func command(text string) []string {
	if words, isList := wordsOf(text); isList {
		return words
	}
	return []string{"/bin/sh", "-c", text}
}

func wordsOf(text string) (words []string, isList bool) {
	err := json.Unmarshal([]byte(text), &words)
	return words, err == nil
}

// parsePairs reads KEY=value KEY=value, or of old KEY value.
func parsePairs(words []string, text string) (pairs [][2]string, err error) {
	if !strings.Contains(words[0], "=") {
		key, value, ok := strings.Cut(text, " ")
		if !ok {
			return nil, fmt.Errorf("%q has no value", key)
		}
		return [][2]string{{key, strings.TrimSpace(value)}}, nil
	}
	for _, word := range words {
		key, value, ok := strings.Cut(word, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("%q is not KEY=VALUE", word)
		}
		pairs = append(pairs, [2]string{key, value})
	}
	return pairs, nil
}

// LastOfEach keeps the last value of every variable, at the place of the first.
func LastOfEach(env []string) []string {
	var out []string
	at := map[string]int{}
	for _, variable := range env {
		key, _, _ := strings.Cut(variable, "=")
		if i, ok := at[key]; ok {
			out[i] = variable
			continue
		}
		at[key] = len(out)
		out = append(out, variable)
	}
	return out
}
