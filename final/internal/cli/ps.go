//go:build linux

package cli

import (
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"

	"gocker/final/internal/engine"
)

func psCommand(e *engine.Engine) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "ps [flags]",
		Short: "List containers",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			states, err := e.Ps()
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 3, ' ', 0)
			fmt.Fprintln(w, "CONTAINER ID\tIMAGE\tCOMMAND\tCREATED\tSTATUS\tNAMES")
			for _, s := range states {
				if !all && s.Status != specs.StateRunning {
					continue
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", s.ID, s.Image, command(s.Command), ago(s.Created), status(s), s.Name)
			}
			return w.Flush()
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also those that have ended")
	return cmd
}

// command is quoted: it may have anything in it, also what moves the cursor.
func command(args []string) string {
	joined := []rune(strings.Join(args, " "))
	if len(joined) > 20 {
		joined = append(joined[:19], '…')
	}
	return strconv.Quote(string(joined))
}

func status(s engine.State) string {
	switch s.Status {
	case specs.StateRunning:
		return "Up " + units.HumanDuration(time.Since(s.Created))
	case specs.StateStopped:
		return fmt.Sprintf("Exited (%d) %s", s.ExitCode, ago(s.Finished))
	}
	return "Created"
}

func rmCommand(e *engine.Engine) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "rm [flags] CONTAINER…",
		Short: "Remove containers",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return each(cmd, args, func(arg string) error { return e.Rm(arg, force) })
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "kill those that run")
	return cmd
}
