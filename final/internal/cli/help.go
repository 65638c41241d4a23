//go:build linux

package cli

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// printHelp prints what cobra's own help does, in lines that fit the terminal.
func printHelp(cmd *cobra.Command, _ []string) {
	w := cmd.OutOrStdout()
	width := helpWidth(w)
	for _, p := range Paragraphs(cmp.Or(cmd.Long, cmd.Short)) {
		if !strings.HasPrefix(p, "  ") {
			p = strings.Join(wrap(p, width), "\n")
		}
		fmt.Fprintf(w, "%s\n\n", p)
	}
	fmt.Fprint(w, "Usage:\n")
	if cmd.Runnable() {
		fmt.Fprintf(w, "  %s\n", cmd.UseLine())
	}
	var commands [][2]string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			commands = append(commands, [2]string{"  " + sub.Name(), sub.Short})
		}
	}
	if commands != nil {
		fmt.Fprintf(w, "  %s COMMAND\n", cmd.CommandPath())
	}
	if len(cmd.Aliases) > 0 {
		fmt.Fprintf(w, "\nAliases:\n  %s\n", cmd.NameAndAliases())
	}
	if cmd.HasExample() {
		fmt.Fprintf(w, "\nExamples:\n%s\n", cmd.Example)
	}
	columns(w, "Commands", commands, width)
	columns(w, "Flags", flagRows(cmd.LocalFlags()), width)
	columns(w, "Global Flags", flagRows(cmd.InheritedFlags()), width)
	if commands != nil {
		fmt.Fprintf(w, "\nMore on a command: %s COMMAND --help\n", cmd.CommandPath())
	}
}

// helpWidth is how many columns a terminal has, or 80 if w is none.
func helpWidth(w io.Writer) int {
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return n
	}
	if file, ok := w.(*os.File); ok {
		if n, _, err := term.GetSize(int(file.Fd())); err == nil && n > 0 {
			return n
		}
	}
	return 80
}

// Paragraphs are those of a command's long description. A paragraph that begins with blanks has lines of its own, such as columns.
func Paragraphs(long string) []string { return strings.Split(strings.TrimRight(long, "\n "), "\n\n") }

// A FlagText is what help and pages say of a flag.
type FlagText struct{ Short, Name, Value, Usage string }

// FlagTexts are those of all flags that are not hidden. What they say is the same on every machine.
func FlagTexts(flags *pflag.FlagSet) (texts []FlagText) {
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		switch f.DefValue {
		case "", "[]", "false", "0":
		case "linux/" + runtime.GOARCH:
			usage += " (default this machine's)"
		default:
			usage += " (default " + f.DefValue + ")"
		}
		texts = append(texts, FlagText{f.Shorthand, f.Name, value, usage})
	})
	return texts
}

func flagRows(flags *pflag.FlagSet) (rows [][2]string) {
	for _, f := range FlagTexts(flags) {
		left := "      --" + f.Name
		if f.Short != "" {
			left = "  -" + f.Short + ", --" + f.Name
		}
		rows = append(rows, [2]string{strings.TrimRight(left+" "+f.Value, " "), f.Usage})
	}
	return rows
}

// columns prints rows of two columns. Where the left one needs more than a third, or 30 letters, the right one begins below.
func columns(w io.Writer, title string, rows [][2]string, width int) {
	if rows == nil {
		return
	}
	fmt.Fprintf(w, "\n%s:\n", title)
	const gap = 2
	most, right := max(30, width/3), 0
	for _, row := range rows {
		if n := utf8.RuneCountInString(row[0]) + gap; n <= most {
			right = max(right, n)
		}
	}
	indent := "\n" + strings.Repeat(" ", right)
	for _, row := range rows {
		text := strings.Join(wrap(row[1], width-right), indent)
		if n := right - utf8.RuneCountInString(row[0]); n >= gap {
			text = strings.Repeat(" ", n) + text
		} else {
			text = indent + text
		}
		fmt.Fprintln(w, row[0]+text)
	}
}

// wrap is text in lines of at most width letters, unless a word is longer.
func wrap(text string, width int) (lines []string) {
	line, n := "", 0
	for _, word := range strings.Fields(text) {
		letters := utf8.RuneCountInString(word)
		if line != "" && n+1+letters > width {
			lines = append(lines, line)
			line = ""
		}
		if line == "" {
			line, n = word, letters
			continue
		}
		line, n = line+" "+word, n+1+letters
	}
	return append(lines, line)
}
