//go:build linux

package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"gocker/final/internal/engine"
)

// nsRow is a row of lsns, with lsns's columns and one more.
type nsRow struct {
	NS      string
	Type    string
	NProcs  int
	PID     int
	User    string
	Command string
	Who     string
}

func lsnsCommand(e *engine.Engine) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "lsns [flags] [CONTAINER…]",
		Short: "Show which namespaces a container has for itself, and which it shares with the host or other containers",
		Long: "Show which namespaces a container has for itself, and which it shares with the host or other containers. A namespace's\n" +
			"number is the inode number of the file /proc/PID/ns/TYPE: equal numbers mean the same namespace.",
		RunE: func(cmd *cobra.Command, args []string) error {
			used, err := e.Look().Namespaces(args...)
			if used == nil && err != nil {
				return err
			}
			var rows []nsRow
			for _, ns := range used {
				command := []rune(ns.Command)
				if len(command) > 30 {
					command = append(command[:29], '…')
				}
				rows = append(rows, nsRow{fmt.Sprint(ns.NS), ns.Type, ns.NProcs, ns.PID, ns.User, string(command), strings.Join(ns.Users, ", ")})
			}
			return errors.Join(printFormatted(cmd.OutOrStdout(), format, `table {{.NS}}\t{{.Type}}\t{{.NProcs}}\t{{.PID}}\t{{.User}}\t{{.Command}}\t{{.Who}}`, rows), err)
		},
	}
	cmd.Flags().StringVar(&format, "format", "", formatHelp)
	return cmd
}
