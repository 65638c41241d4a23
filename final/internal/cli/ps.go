//go:build linux

package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/cobra"

	"gocker/final/internal/engine"
)

// psRow is a row of ps, with docker's names.
type psRow struct {
	ID         string `header:"CONTAINER ID"`
	Image      string
	Command    string
	RunningFor string `header:"CREATED"`
	Status     string
	Names      string
}

const psTable = `table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}`

func psCommand(e *engine.Engine) *cobra.Command {
	var all, noHeading bool
	var format string
	cmd := &cobra.Command{
		Use:   "ps [flags]",
		Short: "List containers",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			states, err := e.Ps()
			if err != nil {
				return err
			}
			var rows []psRow
			for _, s := range states {
				if all || s.Status == specs.StateRunning {
					rows = append(rows, psRow{s.ID, s.Image, command(s.Command), ago(s.Created), status(s), s.Name})
				}
			}
			return printRows(cmd.OutOrStdout(), format, psTable, !noHeading, rows)
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also those that have ended")
	cmd.Flags().StringVar(&format, "format", "", formatHelp)
	cmd.Flags().BoolVar(&noHeading, "noheading", false, "no names of columns")
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
