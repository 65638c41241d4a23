//go:build linux

package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"gocker/final/internal/engine"
	"gocker/final/internal/look"
)

func portCommand(e *engine.Engine) *cobra.Command {
	return &cobra.Command{
		Use:   "port CONTAINER [PORT[/PROTOCOL]]",
		Short: "Show which ports of the host lead to those of a container",
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := e.Look().Ports(args[0])
			if err != nil {
				return err
			}
			wanted := strings.Join(args[1:], "")
			if wanted != "" && !strings.Contains(wanted, "/") {
				wanted += "/tcp"
			}
			slices.SortStableFunc(all, func(a, b look.Port) int {
				return cmp.Or(cmp.Compare(a.Container, b.Container), cmp.Compare(a.Protocol, b.Protocol))
			})
			found := wanted == ""
			for _, p := range all {
				switch {
				case !p.Host.IsValid():
				case wanted == "":
					fmt.Fprintf(cmd.OutOrStdout(), "%s -> %s\n", p, p.Host)
				case wanted == p.String():
					fmt.Fprintln(cmd.OutOrStdout(), p.Host)
					found = true
				}
			}
			if !found {
				return fmt.Errorf("no public port %q published for %s", wanted, args[0])
			}
			return nil
		},
	}
}
