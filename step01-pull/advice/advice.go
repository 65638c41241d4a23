// Package advice lets an error carry what its reader can do about it, apart from what happened:
//
//	gocker: mount overlay on "…/3f2a/fs/mnt": operation not permitted
//	  only root may mount; run: sudo gocker …
package advice

import (
	"errors"
	"fmt"
)

type advised struct {
	error
	advice string
}

func (a advised) Unwrap() error { return a.error }

// Add returns err with advice; its message stays as it is.
func Add(err error, format string, args ...any) error {
	return advised{err, fmt.Sprintf(format, args...)}
}

// Of returns the advice that err carries, "" where it has none.
func Of(err error) string {
	var a advised
	if errors.As(err, &a) {
		return a.advice
	}
	return ""
}

// Print is the way to show an error on a terminal: who speaks, what failed, and below it the advice.
func Print(who string, err error) string {
	s := who + ": " + err.Error() + "\n"
	if a := Of(err); a != "" {
		s += "  " + a + "\n"
	}
	return s
}
