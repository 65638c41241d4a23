//go:build linux

package cli

import (
	"context"
	"fmt"
	"os/signal"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"gocker/final/internal/engine"
	"gocker/step01-pull/pull"
)

func pullCommand(e *engine.Engine) *cobra.Command {
	var platform string
	cmd := &cobra.Command{
		Use:   "pull [flags] IMAGE",
		Short: "Fetch an image from its registry",
		Long:  "Fetch an image from its registry. The image \"sample\" needs no network: it is made of this machine's own programs.",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := pull.ParseReference(args[0])
			if err != nil {
				return err
			}
			want, err := v1.ParsePlatform(platform)
			if err != nil {
				return fmt.Errorf("--platform %q: %w", platform, err)
			}
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			img, err := e.Pull(ctx, ref, want)
			if err != nil {
				return err
			}
			for _, l := range img.Layers {
				fmt.Fprintf(cmd.OutOrStdout(), "layer %s\n", l.Digest)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is image %s\n", ref, img.ID)
			return nil
		},
	}
	cmd.Flags().StringVar(&platform, "platform", pull.HostPlatform().String(), "which one, of a name that stands for several: `os/arch[/variant]`")
	return cmd
}
