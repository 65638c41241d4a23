//go:build linux

package life

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gocker/final/internal/containers"
	"gocker/final/internal/describe"
	"gocker/final/internal/filter"
	"gocker/step01-pull/shared/advice"
)

// CheckPrune tells whether these are filters of a prune: until=TIME and label=KEY[=VALUE].
func CheckPrune(filters []string) error {
	_, _, err := parsePrune(filters)
	return err
}

func parsePrune(filters []string) (until time.Time, labels []string, err error) {
	for _, f := range filters {
		if text, ok := strings.CutPrefix(f, "until="); ok {
			if until, err = filter.Until(text); err != nil {
				return until, nil, err
			}
			continue
		}
		label, ok := strings.CutPrefix(f, "label=")
		if !ok {
			return until, nil, advice.Add(fmt.Errorf("filter %q: %w", f, describe.ErrOption), "filters are until=, label=")
		}
		labels = append(labels, label)
	}
	return until, labels, nil
}

// Prune removes the containers that do not run. Filters are those of CheckPrune. One that cannot be read is
// kept.
func (life Life) Prune(filters []string, removed func(id string)) (bytes int64, err error) {
	until, labels, err := parsePrune(filters)
	if err != nil {
		return 0, err
	}
	all, err := life.Containers.List()
	for _, s := range all {
		lacks := slices.ContainsFunc(labels, func(label string) bool { return !filter.HasLabel(s.Annotations, label) })
		if c := s.Condition(); c != "exited" && c != "created" || lacks || !until.IsZero() && !s.Created.Before(until) {
			continue
		}
		size := life.Containers.Bytes(s.ID)
		switch rmErr := life.Remove(s.ID, RmOptions{}); {
		case errors.Is(rmErr, containers.ErrNoContainer) || errors.Is(rmErr, containers.ErrRunning): // somebody was faster
		case rmErr != nil:
			err = errors.Join(err, rmErr)
		default:
			removed(s.ID)
			bytes += size
		}
	}
	return bytes, err
}
