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
