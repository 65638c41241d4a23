// Package filter reads the values that filters and other flags have in common.
package filter

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Time reads a time as docker does: a date, a number of seconds since 1970, or how long ago it was.
func Time(text string) (time.Time, error) {
	if ago, err := time.ParseDuration(text); err == nil {
		return time.Now().Add(-ago), nil
	}
	var seconds, nanos int64
	if n, _ := fmt.Sscanf(text+" ", "%d.%d ", &seconds, &nanos); n > 0 && len(text) > 8 && text[4] != '-' {
		return time.Unix(seconds, nanos), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errors.New("want a date and time, 2026-01-02T15:04:05Z, seconds since 1970, or how long ago, 10m")
}

// Until reads the filter until=TEXT of a prune.
func Until(text string) (time.Time, error) {
	t, err := Time(text)
	if err != nil {
		err = fmt.Errorf("filter \"until=%s\": %w", text, err)
	}
	return t, err
}

// HasLabel tells whether something has a label: KEY, or KEY=VALUE.
func HasLabel(labels map[string]string, label string) bool {
	name, text, exact := strings.Cut(label, "=")
	got, ok := labels[name]
	return ok && (!exact || got == text)
}

// Tests are those of filters, by their kinds: of one kind any is enough.
type Tests[T any] map[string][]func(T) bool

// Pass tells whether something passes.
func (t Tests[T]) Pass(value T) bool {
	for _, alternatives := range t {
		if !slices.ContainsFunc(alternatives, func(pass func(T) bool) bool { return pass(value) }) {
			return false
		}
	}
	return true
}
