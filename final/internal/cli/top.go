//go:build linux

package cli

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"gocker/final/internal/engine"
)

func topCommand(e *engine.Engine) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "top CONTAINER [PS-OPTION…]",
		Short: "Show the processes of a container",
		Long: "Show the processes of a container, as ps -ef does. With other options gocker runs the host's ps, and shows only the\n" +
			"container's lines. Process numbers and users are the host's.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			rows, err := e.Look().Top(args[0], args[1:]...)
			if err != nil {
				return err
			}
			table := tabwriter.NewWriter(cmd.OutOrStdout(), 12, 1, 3, ' ', 0)
			for _, row := range rows {
				for i, cell := range row {
					row[i] = printable(struct{ Text string }{cell}).Text // a process calls itself as it likes
				}
				fmt.Fprintln(table, strings.Join(row, "\t"))
			}
			return table.Flush()
		},
	}
	cmd.Flags().SetInterspersed(false) // what stands behind CONTAINER is for ps
	return cmd
}

func portCommand(e *engine.Engine) *cobra.Command {
	return &cobra.Command{
		Use:   "port CONTAINER [PORT[/PROTOCOL]]",
		Short: "Show which ports of a container are published: none, as gocker has no network to publish them from",
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			if _, err := e.Look().Inspect(args[0], false); err != nil {
				return err
			}
			if len(args) == 1 {
				return nil
			}
			port := args[1]
			if !strings.Contains(port, "/") {
				port += "/tcp"
			}
			return exit{exitFailed, fmt.Errorf("no public port %q published for %s", port, args[0])}
		},
	}
}
