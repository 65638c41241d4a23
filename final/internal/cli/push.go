//go:build linux

package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"gocker/final/internal/engine"
	"gocker/final/internal/images"
	"gocker/step01-pull/pull"
)

func pushCommand(e *engine.Engine) *cobra.Command {
	var opts images.PushOptions
	var quiet, all bool
	cmd := &cobra.Command{
		Use:   "push [flags] NAME[:TAG]",
		Short: "Send an image to the registry in its name",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := pull.ParseReference(args[0])
			if err != nil {
				return err
			}
			tags := []string{ref.Tag}
			if all {
				if err := noTag(args[0], ref); err != nil {
					return err
				}
				if tags, err = e.Images().Tags(ref); err != nil {
					return err
				}
			}
			ctx, stop := interruptible()
			defer stop()
			out := cmd.OutOrStdout()
			if quiet {
				out = io.Discard
			}
			fmt.Fprintf(out, "The push refers to repository [%s]\n", strings.TrimSuffix(images.FullName(ref), ":"+ref.Tag))
			return eachDo(tags, func(tag string) error {
				ref := ref
				if all {
					if ref, err = pull.ParseReference(ref.Name + ":" + tag); err != nil {
						return err
					}
				}
				show := newBars(out, "Pushed", "Layer already exists")
				opts.Progress = show.progress
				digest, size, err := e.Images().Push(ctx, ref, opts)
				show.end()
				if err != nil {
					return err
				}
				fmt.Fprintf(out, "%s: digest: %s size: %d\n", ref.Tag, digest, size)
				if quiet {
					fmt.Fprintln(cmd.OutOrStdout(), images.FullName(ref))
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVarP(&all, "all-tags", "a", false, "push all images of a repository")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print only the image's name")
	registryFlags(cmd.Flags(), &opts.Options)
	return cmd
}
