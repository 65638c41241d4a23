//go:build linux

package cli

import (
	"errors"
	"strings"
)

// A list is the value of a flag that may come several times, each time with one more element. pflag has one, too; but that
// makes a buffer for the text of its default value, for each such flag of a command that starts.
type list []string

func (l *list) Set(element string) error { *l = append(*l, element); return nil }
func (l *list) String() string           { return strings.Join(*l, ",") }
func (l *list) Type() string             { return "stringArray" } // so completion knows that it may come again

// A commaList is a list whose flag takes several elements at once: "a,b".
type commaList []string

func (l *commaList) Set(elements string) error {
	*l = append(*l, strings.Split(elements, ",")...)
	return nil
}
func (l *commaList) String() string { return strings.Join(*l, ",") }
func (l *commaList) Type() string   { return "stringSlice" }

// A labelList is a list of KEY=value, in which each has a key.
type labelList []string

func (l *labelList) Set(label string) error {
	if label == "" || label[0] == '=' {
		return errors.New("write KEY=value, or KEY")
	}
	*l = append(*l, label)
	return nil
}
func (l *labelList) String() string { return strings.Join(*l, ",") }
func (l *labelList) Type() string   { return "stringArray" }
