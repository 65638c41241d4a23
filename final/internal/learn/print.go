//go:build linux

package learn

import (
	"fmt"
	"io"
	"strings"
)

// Print tells a learner what became of the program. command is how it was checked.
func (r Report) Print(w io.Writer, command string) {
	for _, result := range r.Results {
		if result.OK {
			fmt.Fprintf(w, "ok    %s\n", result.Asks)
			continue
		}
		fmt.Fprintf(w, "FAIL  %s\n", result.Asks)
		section(w, "asked", strings.Join(result.Ran, "\n"))
		section(w, "input", strings.Join(result.Input, "\n"))
		section(w, "expected", result.Expected)
		section(w, "happened", result.Happened)
		section(w, "it wrote", result.Wrote)
		section(w, "why", result.Why)
		section(w, "read", "docs/"+result.Page)
	}
	fmt.Fprintf(w, "\nstep %d: %d of %d cases pass, in %.1fs\n", r.Step, r.Passed, r.Cases, r.Seconds)
	if r.Passed < r.Cases {
		fmt.Fprintf(w, "next: change the program, and then: %s\n", command)
	}
}

// section prints some lines with a word before the first.
func section(w io.Writer, name, lines string) {
	const most = 12
	if lines == "" {
		return
	}
	all := strings.Split(lines, "\n")
	if rest := len(all) - most; rest > 0 {
		all = append(all[:most], fmt.Sprintf("… and %d more lines", rest))
	}
	for i, line := range all {
		if i > 0 {
			name = ""
		}
		fmt.Fprintf(w, "      %-9s %s\n", name, line)
	}
}
