//go:build linux

package learn

import (
	"fmt"
	"io"
	"strings"

	"github.com/mattn/go-runewidth"
)

// Print tells a learner what became of the program. command is how it was checked.
func (r Report) Print(w io.Writer, command string) {
	why := ""
	for _, result := range r.Results {
		if result.OK {
			fmt.Fprintln(w, say("ok    %s", result.Asks))
			continue
		}
		if result.Skipped != "" {
			fmt.Fprintln(w, say("skip  %s", result.Asks))
			if result.Skipped != why { // of several, the first says it
				section(w, say("why"), result.Skipped)
			}
			why = result.Skipped
			continue
		}
		fmt.Fprintln(w, say("FAIL  %s", result.Asks))
		section(w, say("asked"), strings.Join(result.Ran, "\n"))
		section(w, say("input"), strings.Join(result.Input, "\n"))
		section(w, say("expected"), result.Expected)
		section(w, say("happened"), result.Happened)
		section(w, say("it wrote"), result.Wrote)
		section(w, say("why"), result.Why)
		section(w, say("read"), say("docs/%s", result.Page))
	}
	fmt.Fprintf(w, "\n%s\n", say("step %d: %d of %d cases pass, in %.1fs", r.Step, r.Passed, r.Cases, r.Seconds))
	if r.Skipped > 0 {
		fmt.Fprintln(w, say("%d could not be tried here", r.Skipped))
	}
	if r.Passed+r.Skipped < r.Cases {
		fmt.Fprintln(w, say("next: change the program, and then: %s", command))
		fmt.Fprintln(w, say("  or: %s", fmt.Sprintf("gocker learn hint %d", r.Step)))
		return
	}
	fmt.Fprintln(w, say("next, to compare: %s", fmt.Sprintf("gocker learn solution %d", r.Step)))
}

// section prints some lines with a word before the first.
func section(w io.Writer, name, lines string) {
	const most = 12
	if lines == "" {
		return
	}
	all := strings.Split(lines, "\n")
	if rest := len(all) - most; rest > 0 {
		all = append(all[:most], say("… and %d more lines", rest))
	}
	for i, line := range all {
		if i > 0 {
			name = ""
		}
		fmt.Fprintf(w, "      %s %s\n", runewidth.FillRight(name, 9), line)
	}
}
