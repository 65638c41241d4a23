//go:build linux

// Command manual writes the manual pages of gocker, in section 1, into a folder: gocker.1, and one for each command.
//
//	go run ./final/internal/manual -version 1.2.3 -date 2026-11-27 man
//
// They are what the commands say of themselves, as docs/commands.md is. A command that is there by two names has one page,
// and the other name is a link to it.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gocker/final/internal/cli"
	"gocker/final/internal/engine"
	"gocker/step01-pull/shared/dirs"
)

func main() {
	version := flag.String("version", "", "what the pages say of the program's version")
	date := flag.String("date", "", "the day of this version")
	flag.Parse()
	if err := write(flag.Arg(0), *version, *date); err != nil {
		fmt.Fprintln(os.Stderr, "manual:", err)
		os.Exit(1)
	}
}

func write(folder, version, date string) error {
	gocker := cli.Command(&engine.Engine{Dirs: dirs.Dirs{Root: "/var/lib/gocker", Run: "/var/run/gocker"}})
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	pages := map[string]*cobra.Command{} // by what they are about
	var all func(cmd *cobra.Command) error
	all = func(cmd *cobra.Command) error {
		file := filepath.Join(folder, name(cmd)+".1")
		err := os.RemoveAll(file) // of an earlier time
		if same := pages[cmd.Short]; same != nil {
			err = errors.Join(err, os.Symlink(name(same)+".1", file))
		} else {
			pages[cmd.Short] = cmd
			err = errors.Join(err, os.WriteFile(file, page(cmd, version, date), 0o644))
		}
		if err != nil {
			return err
		}
		// Those with commands of their own come last: they have others once more.
		subs := cmd.Commands()
		slices.SortStableFunc(subs, func(a, b *cobra.Command) int { return len(a.Commands()) - len(b.Commands()) })
		for _, sub := range subs {
			if err := all(sub); err != nil {
				return err
			}
		}
		return nil
	}
	return all(gocker)
}

// name is a page's: gocker-volume-rm.
func name(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

func page(cmd *cobra.Command, version, date string) []byte {
	var p bytes.Buffer
	fmt.Fprintf(&p, ".TH %s 1 %q %q\n", roff(strings.ToUpper(name(cmd))), date, strings.TrimSpace("gocker "+version))
	fmt.Fprintf(&p, ".SH NAME\n%s \\- %s\n.SH SYNOPSIS\n.nf\n", roff(name(cmd)), roff(cmd.Short))
	if cmd.HasSubCommands() {
		fmt.Fprintf(&p, "%s\n", roff(cmd.CommandPath()+" [flags] COMMAND [ARG…]"))
	} else {
		for line := range strings.Lines(cmd.UseLine()) {
			fmt.Fprintf(&p, "%s\n", roff(strings.TrimSpace(line)))
		}
	}
	fmt.Fprint(&p, ".fi\n.SH DESCRIPTION\n")
	long := cmd.Long
	switch {
	case !cmd.HasParent():
		long = about
	case long == "":
		long = cmd.Short + "."
	}
	paragraphs(&p, long)
	if cmd.HasSubCommands() {
		fmt.Fprint(&p, ".SH COMMANDS\n")
		for _, sub := range cmd.Commands() {
			fmt.Fprintf(&p, ".TP\n.BR %s (1)\n%s\n", roff(name(sub)), roff(sub.Short))
		}
	}
	options(&p, cmd.LocalFlags())
	if cmd.HasParent() {
		fmt.Fprint(&p, ".PP\nFlags of all commands, files and the environment are in\n.BR gocker (1).\n")
	}
	if cmd.HasExample() {
		fmt.Fprint(&p, ".SH EXAMPLES\n")
		paragraphs(&p, cmd.Example)
	}
	fmt.Fprint(&p, ".SH EXIT STATUS\n")
	paragraphs(&p, status(cmd))
	if !cmd.HasParent() {
		list(&p, "FILES", files)
		list(&p, "ENVIRONMENT", environment)
	}
	fmt.Fprint(&p, ".SH SEE ALSO\n")
	fmt.Fprintf(&p, ".BR %s\n", strings.Join(seeAlso(cmd), ",\n.BR "))
	return p.Bytes()
}

// roff has groff print a text as it is: "-" is what a user types, and no hyphen.
func roff(text string) string {
	var out strings.Builder
	for i, r := range text {
		switch {
		case r == '\\':
			out.WriteString(`\e`)
		case r == '-':
			out.WriteString(`\-`)
		case r > 0x7e:
			fmt.Fprintf(&out, `\[u%04X]`, r)
		case i == 0 && (r == '.' || r == '\''): // else it begins a request
			out.WriteString(`\&` + string(r))
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}

// paragraphs are text, or lines that stay as they are where they begin with blanks.
func paragraphs(p *bytes.Buffer, text string) {
	for i, paragraph := range cli.Paragraphs(text) {
		if i > 0 {
			fmt.Fprint(p, ".PP\n")
		}
		fixed := strings.HasPrefix(paragraph, "  ")
		if fixed {
			fmt.Fprint(p, ".RS\n.nf\n")
		}
		for line := range strings.Lines(paragraph) {
			fmt.Fprintln(p, roff(strings.TrimPrefix(strings.TrimRight(line, "\n"), "  ")))
		}
		if fixed {
			fmt.Fprint(p, ".fi\n.RE\n")
		}
	}
}

func options(p *bytes.Buffer, flags *pflag.FlagSet) {
	texts := cli.FlagTexts(flags)
	if len(texts) == 0 {
		return
	}
	fmt.Fprint(p, ".SH OPTIONS\n")
	for _, f := range texts {
		fmt.Fprint(p, ".TP\n")
		if f.Short != "" {
			fmt.Fprintf(p, `\fB%s\fP, `, roff("-"+f.Short))
		}
		fmt.Fprintf(p, `\fB%s\fP`, roff("--"+f.Name))
		if f.Value != "" {
			fmt.Fprintf(p, ` \fI%s\fP`, roff(f.Value))
		}
		fmt.Fprintf(p, "\n%s\n", roff(f.Usage))
	}
}

func list(p *bytes.Buffer, title string, rows [][2]string) {
	fmt.Fprintf(p, ".SH %s\n", title)
	for _, row := range rows {
		fmt.Fprintf(p, ".TP\n\\fI%s\\fP\n%s\n", roff(row[0]), roff(row[1]))
	}
}

// seeAlso are the pages above and below a command, and others that a reader may want.
func seeAlso(cmd *cobra.Command) (pages []string) {
	if !cmd.HasParent() {
		return kernelPages
	}
	for above := cmd.Parent(); above != nil; above = above.Parent() {
		pages = append(pages, roff(name(above))+" (1)")
	}
	for _, sub := range cmd.Commands() {
		pages = append(pages, roff(name(sub))+" (1)")
	}
	for _, other := range related[name(cmd)] {
		pages = append(pages, roff(other)+" (1)")
	}
	return pages
}
