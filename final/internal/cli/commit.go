//go:build linux

package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"gocker/final/internal/engine"
	"gocker/final/internal/life"
)

func commitCommand(e *engine.Engine) *cobra.Command {
	var opts life.CommitOptions
	cmd := &cobra.Command{
		Use:   "commit [flags] CONTAINER [NAME[:TAG]]",
		Short: "Make an image of what a container changed",
		Long: "Make an image of a container: its changes become a layer on top of the layers of its image. Files on mounts, such as\n" +
			"folders of the host, are not in it.",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			names, err := references(args[1:])
			if err != nil {
				return err
			}
			ctx, stop := interruptible()
			defer stop()
			img, err := e.Life().Commit(ctx, args[0], opts, names...)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "sha256:"+img.Digest)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVarP(&opts.Author, "author", "a", "", "`text` that names the author")
	f.StringVarP(&opts.Message, "message", "m", "", "`text` about the change, which gocker history shows")
	f.VarP((*list)(&opts.Changes), "change", "c", "change the config with a `line` of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, STOPSIGNAL, USER, VOLUME, WORKDIR")
	f.BoolVarP(&opts.Pause, "pause", "p", true, "freeze a running container while its files are read")
	return cmd
}
