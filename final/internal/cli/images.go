//go:build linux

package cli

import (
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"gocker/final/internal/engine"
	"gocker/step01-pull/pull"
)

func imagesCommand(e *engine.Engine) *cobra.Command {
	return &cobra.Command{
		Use:   "images",
		Short: "List the images that are here",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			images, err := e.Images()
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 3, ' ', 0)
			fmt.Fprintln(w, "REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE")
			for _, i := range images {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", i.Repository, i.Tag, i.ID, ago(i.Created), units.HumanSize(float64(i.Size)))
			}
			return w.Flush()
		},
	}
}

func rmiCommand(e *engine.Engine) *cobra.Command {
	return &cobra.Command{
		Use:   "rmi IMAGE…",
		Short: "Remove images",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var all error
			for _, arg := range args {
				ref, err := pull.ParseReference(arg)
				if err != nil {
					all = errors.Join(all, err)
					continue
				}
				untagged, deleted, err := e.Rmi(ref)
				for _, name := range untagged {
					fmt.Fprintln(cmd.OutOrStdout(), "Untagged:", name)
				}
				for _, id := range deleted {
					fmt.Fprintln(cmd.OutOrStdout(), "Deleted:", id)
				}
				all = errors.Join(all, err)
			}
			return all
		},
	}
}

func ago(t time.Time) string {
	if t.IsZero() {
		return "N/A"
	}
	return units.HumanDuration(time.Since(t)) + " ago"
}
