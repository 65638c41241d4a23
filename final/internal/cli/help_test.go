//go:build linux

package cli_test

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gocker/final/internal/cli"
	"gocker/final/internal/engine"
	"gocker/step01-pull/shared/dirs"
)

func TestHelpFitsIntoTheColumnsThatThereAre(t *testing.T) {
	t.Setenv("COLUMNS", "")
	t.Run("80, where there is no terminal", func(t *testing.T) { eachHelp(t, 80) })
	t.Run("COLUMNS", func(t *testing.T) {
		t.Setenv("COLUMNS", "132")
		eachHelp(t, 132)
	})
	t.Run("those of the terminal", func(t *testing.T) { // 99 of them
		term := openTerminal(t, dirs.Dirs{}, "run", "--help")
		term.shows("connect it to the network NAME; or none, host, container:NAME; or\r\n")
	})
}

// eachHelp looks at the help of all commands: no line is longer than width, some come near, and no flag is left out.
func eachHelp(t *testing.T, width int) {
	longest := 0
	var look func(cmd *cobra.Command)
	look = func(cmd *cobra.Command) {
		var out bytes.Buffer
		cmd.SetOut(&out)
		if err := cmd.Help(); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out.String()) {
			n := utf8.RuneCountInString(strings.TrimRight(line, "\n"))
			if longest = max(longest, n); n > width {
				t.Errorf("%s --help has a line of %d letters, want at most %d:\n%s", cmd.CommandPath(), n, width, line)
			}
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && !strings.Contains(out.String(), "--"+f.Name) {
				t.Errorf("%s --help does not have --%s", cmd.CommandPath(), f.Name)
			}
		})
		for _, sub := range cmd.Commands() {
			look(sub)
		}
	}
	look(cli.Command(&engine.Engine{}))
	if longest < width-2 {
		t.Errorf("the longest line of any help has %d letters, although there are %d", longest, width)
	}
}
