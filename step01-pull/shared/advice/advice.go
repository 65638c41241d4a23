// Package advice lets an error carry what its reader can do about it, apart from what happened:
//
//	gocker: mount overlay on "…/3f2a/fs/mnt": operation not permitted
//	  only root may mount; run: sudo gocker …
package advice

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
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

// Print is the way to show an error on a terminal: the program's name, the error, and below it the advice. Of errors that are
// joined, each has its own; several with the same advice have it once. A name in it may come from anywhere, and have
// characters that a terminal obeys: they are spelled as Go does, "\x1b".
func Print(who string, err error) string {
	s := ""
	all := split(err)
	for i, err := range all {
		s += who + ": " + Short(err.Error()) + "\n"
		if a := Of(err); a != "" && (i+1 == len(all) || Of(all[i+1]) != a) {
			s += "  " + Short(a) + "\n"
		}
	}
	return Printable(s)
}

// Short cuts the middle out of words that are longer than names and paths are, and out of a text that nobody would read to
// its end: what it quotes may come from anywhere, and be of any length.
func Short(s string) string {
	const word, text = 500, 2000
	s = cut(s, text)
	for long := range strings.FieldsSeq(s) {
		s = strings.Replace(s, long, cut(long, word), 1)
	}
	return s
}

// cut leaves at most so many bytes, but for the dots in the middle.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most*2/3], "") + "…" + strings.ToValidUTF8(s[len(s)-most/3:], "")
}

// split takes apart what errors.Join has joined. fmt.Errorf with several %w makes one error, whose text is no list.
func split(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	var texts []string
	for _, one := range joined.Unwrap() {
		all = append(all, split(one)...)
		texts = append(texts, one.Error())
	}
	if strings.Join(texts, "\n") != err.Error() {
		return []error{err}
	}
	return all
}

// Printable spells characters that a terminal obeys as Go does, "\x1b".
func Printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r == '\n' || r == '\t' || strconv.IsPrint(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}
