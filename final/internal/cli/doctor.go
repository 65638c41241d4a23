//go:build linux

package cli

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"gocker/final/internal/doctor"
	"gocker/final/internal/engine"
	"gocker/step03-layers/usernamespace"
	"gocker/step04-overlay/check"
)

func doctorCommand(e *engine.Engine) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "doctor [flags]",
		Short: "Check whether containers can run on this machine, and say how to mend what is missing",
		Long:  "Check whether containers can run on this machine, and say how to mend what is missing. The exit status is 0 only if containers can run.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			results := doctor.Run(e.Dirs, e.Networks().DefaultDevice())
			switch format {
			case "json":
				encoder := json.NewEncoder(cmd.OutOrStdout())
				encoder.SetIndent("", "  ")
				if err := encoder.Encode(results); err != nil {
					return err
				}
			case "":
				printResults(cmd.OutOrStdout(), results)
			default:
				return fmt.Errorf("--format %q: there is only json", format)
			}
			if !doctor.CanRun(results) {
				return exit{exitFailed, nil}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&format, "format", "", "`json`, for programs")
	return cmd
}

func printResults(w io.Writer, results []check.Result) {
	for _, r := range results {
		mark := "ok"
		switch {
		case !r.OK && r.Required:
			mark = "MISS"
		case !r.OK:
			mark = "note"
		}
		fmt.Fprintf(w, "%-5s %-21s %s\n", mark, r.Name, r.Found)
		if !r.OK {
			fmt.Fprintf(w, "%-5s %-21s breaks: %s\n%-5s %-21s mend:   %s\n", "", "", r.Breaks, "", "", r.Mend)
		}
	}
	if doctor.CanRun(results) {
		network := ""
		if usernamespace.Inside() {
			network = "--network none "
		}
		fmt.Fprintf(w, "Containers can run here. Try: gocker run --rm %ssample echo hello\n", network)
	} else {
		fmt.Fprintln(w, "Containers cannot run here until each MISS is mended.")
	}
}
