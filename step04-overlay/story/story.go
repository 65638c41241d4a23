// Package story tells what a program asks of the kernel, as it happens, each with the shell command that does the same
// by hand.
//
//	tell.Run(story.Inside, "a /dev of its own", "mount", "-t", "tmpfs", "tmpfs", story.Root+"/dev")
//
// Code that asks something of the kernel is given a Story, and tells it when it is done. The nil Story hears nothing and
// costs nothing. Put together, the commands are a script that does all of it without this program; so each says where
// in there it stands.
package story

import (
	"flag"
	"fmt"
	"io"
	"strings"
	"unicode"
)

// A Story hears line after line, in the order in which things happen, from one thread at a time.
type Story func(Line)

// A Line is one thing that was done.
type Line struct {
	Where   Where
	Why     string // what it is for; one line
	Command string // for sh
}

// Where a command stands in the script. A program can be inside the container and still have its own code; a shell there
// has only the image's programs. So the script changes its root last, which a program does first.
type Where int

const (
	Host    Where = iota // on the host, before all else
	Enter                // in front of the shell that goes into new namespaces: "unshare …"
	Inside               // in the new namespaces; the container's root is at $root
	Join                 // the last there: from now on the container's limits hold
	Become               // in front of the container's command: "setpriv …"
	Command              // the container's command
	Pivot                // on the host again, when all that is done: $pid is the process that will be the command
	After                // on the host, when the command has ended
)

// Root stands for the container's root folder, at the beginning of a word.
const Root = "\x00"

// Run tells of a command and its arguments.
func (s Story) Run(where Where, why string, words ...string) {
	if s != nil {
		s(Line{where, why, Quote(words...)})
	}
}

// Write tells of a value that was written to one of the kernel's files.
func (s Story) Write(where Where, why, file string, value any) {
	if s == nil {
		return
	}
	text := fmt.Sprint(value)
	command := Quote("echo", text)
	if strings.ContainsAny(text, `\`) || strings.HasPrefix(text, "-") { // to some an option, or an escape
		command = Quote("printf", `%s\n`, text)
	}
	s(Line{where, why, command + " >" + Quote(file)})
}

// Sh tells of something that is more than one command: it is for sh as it is.
func (s Story) Sh(where Where, why, command string) {
	if s != nil {
		s(Line{where, why, command})
	}
}

// plain needs no quotes. A first word with "=" in it would be an assignment, but no program is called so.
func plain(word string) bool {
	return word != "" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-") == ""
}

// Quote writes words so that sh reads these words and does nothing else, and so that a terminal shows them and does
// nothing else: control characters are written as printf's octal numbers.
func Quote(words ...string) string {
	var quoted []string
	for _, word := range words {
		prefix := ""
		if rest, ok := strings.CutPrefix(word, Root); ok {
			prefix, word = `"$root"`, rest
		}
		switch {
		case plain(word) || prefix != "" && word == "":
		default:
			word = "'" + quoteInside(word) + "'"
		}
		quoted = append(quoted, prefix+word)
	}
	return strings.Join(quoted, " ")
}

func quoteInside(word string) string {
	var b strings.Builder
	for i, r := range word {
		switch {
		case r == '\'':
			b.WriteString(`'\''`)
		case r == '\n' || r != unicode.ReplacementChar && unicode.IsPrint(r):
			b.WriteRune(r)
		case r != unicode.ReplacementChar:
			for _, c := range []byte(string(r)) {
				fmt.Fprintf(&b, `'"$(printf '\%03o')"'`, c)
			}
		case strings.HasPrefix(word[i:], string(r)): // the character itself, not a byte that is no UTF-8
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `'"$(printf '\%03o')"'`, word[i])
		}
	}
	return b.String()
}

// Print is the Story that writes a comment and below it the command.
func Print(w io.Writer) Story {
	return func(l Line) { fmt.Fprintf(w, "# %s\n%s\n", l.Why, l.Command) }
}

// Flag adds -explain to a lesson's flags: the Story that it returns prints to w where the flag is given, and else hears
// nothing.
func Flag(flags *flag.FlagSet, w io.Writer) *Story {
	var tell Story
	flags.BoolFunc("explain", "tell what the step asks of the kernel, and the shell commands that do the same", func(string) error {
		tell = Print(w)
		return nil
	})
	return &tell
}
