// Package filter reads what --filter has in common for containers and images.
package filter

import (
	"fmt"
	"strings"
	"time"
)

// Until reads a time, or how long ago it was.
func Until(text string) (time.Time, error) {
	if ago, err := time.ParseDuration(text); err == nil {
		return time.Now().Add(-ago), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("filter \"until=%s\": it is neither a time, 2006-01-02T15:04:05, nor how long ago, 24h", text)
}

// HasLabel tells whether something has a label: KEY, or KEY=VALUE.
func HasLabel(labels map[string]string, label string) bool {
	name, text, exact := strings.Cut(label, "=")
	got, ok := labels[name]
	return ok && (!exact || got == text)
}
