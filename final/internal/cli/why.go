//go:build linux

package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"gocker/final/internal/engine"
	"gocker/final/internal/why"
	"gocker/step01-pull/shared/advice"
)

func whyCommand(e *engine.Engine) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "why [flags] CONTAINER",
		Short: "Tell why a container ended, did not start, or is unhealthy",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			answer, err := e.Look().Why(args[0])
			if err != nil {
				return err
			}
			if format != "" {
				return printInspected(cmd.OutOrStdout(), format, []why.Answer{answer})
			}
			printAnswer(cmd.OutOrStdout(), answer)
			return nil
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", "`json`, or a Go template such as '{{.Verdict}}'")
	return cmd
}

func printLines(w io.Writer, title string, lines []string) {
	if len(lines) > 0 {
		fmt.Fprintln(w, " ", title)
	}
	for _, line := range lines {
		fmt.Fprintln(w, "   ", advice.Printable(line))
	}
}

// printAnswer shows what the container and its image call themselves, too: as advice.Print does.
func printAnswer(w io.Writer, a why.Answer) {
	fmt.Fprintln(w, advice.Printable(a.Verdict))
	for _, r := range a.Reasons {
		if r.What != "" {
			fmt.Fprintln(w, " ", advice.Printable(r.What))
		}
		if r.Advice != "" {
			fmt.Fprintln(w, "   ", advice.Printable(r.Advice))
		}
	}
	printLines(w, "the last lines of its health check:", a.Asked)
	printLines(w, "the last lines of its standard error:", a.Wrote)
}
