// Package filter reads the values that filters and other flags have in common.
package filter

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"gocker/step01-pull/shared/advice"
)

// Nanoseconds is how logs and events write a time: always with nine digits, so that lines can be compared.
const Nanoseconds = "2006-01-02T15:04:05.000000000Z07:00"

// Time reads a time as docker does: a date, a number of seconds since 1970, or how long ago it was.
func Time(text string) (time.Time, error) {
	if t, ok := unixTime(text); ok { // also 0, which is no duration
		return t, nil
	}
	if ago, err := time.ParseDuration(text); err == nil {
		return time.Now().Add(-ago), nil
	}
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02T15", "2006-01-02"} {
		for _, zone := range []string{"Z07:00", ""} { // seconds may have a fraction in any case
			if t, err := time.ParseInLocation(layout+zone, text, time.Local); err == nil {
				return t, nil
			}
		}
	}
	return time.Time{}, errors.New("want a date and time, 2026-01-02T15:04:05Z, seconds since 1970, or how long ago, 10m")
}

// unixTime reads seconds since 1970: "1000", "1136073845.5", ".5".
func unixTime(text string) (time.Time, bool) {
	whole, fraction, _ := strings.Cut(text, ".")
	const nanoDigits = 9
	if whole+fraction == "" || len(fraction) > nanoDigits {
		return time.Time{}, false
	}
	seconds, err := strconv.ParseUint("0"+whole, 10, 62)
	nanos, fractionErr := strconv.ParseUint(fraction+strings.Repeat("0", nanoDigits-len(fraction)), 10, 62)
	return time.Unix(int64(seconds), int64(nanos)), err == nil && fractionErr == nil
}

// Until reads the filter until=TEXT of a prune.
func Until(text string) (time.Time, error) {
	t, err := Time(text)
	if err != nil {
		err = fmt.Errorf("filter \"until=%s\": %w", text, err)
	}
	return t, err
}

// Prune reads the filters of the commands that prune: until=TIME, label=KEY[=VALUE] and label!=KEY[=VALUE]. unwanted tells
// whether something passes all of them. Where times are not asked for, until is refused: else it would remove what it
// should keep.
func Prune(filters []string, withTimes bool) (unwanted func(created time.Time, labels map[string]string) bool, err error) {
	var until time.Time
	var has, lacks []string
	for _, f := range filters {
		key, value, _ := strings.Cut(f, "=")
		switch {
		case key == "until" && withTimes:
			if until, err = Until(value); err != nil {
				return nil, err
			}
		case key == "label":
			has = append(has, value)
		case key == "label!":
			lacks = append(lacks, value)
		case withTimes:
			return nil, advice.Add(fmt.Errorf("filter %q: not supported", f), "filters are until=, label=, label!=")
		default:
			return nil, advice.Add(fmt.Errorf("filter %q: not supported for volumes", f), "filters are label=, label!=")
		}
	}
	return func(created time.Time, labels map[string]string) bool {
		is := func(label string) bool { return HasLabel(labels, label) }
		isNot := func(label string) bool { return !is(label) }
		return (until.IsZero() || created.Before(until)) && !slices.ContainsFunc(has, isNot) && !slices.ContainsFunc(lacks, is)
	}, nil
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
