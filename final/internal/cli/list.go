//go:build linux

package cli

import "strings"

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
