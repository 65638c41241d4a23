//go:build linux

package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"gocker/final/internal/describe"
	"gocker/final/internal/engine"
	"gocker/final/internal/life"
)

func pauseCommand(e *engine.Engine) *cobra.Command {
	return &cobra.Command{
		Use:   "pause CONTAINER…",
		Short: "Freeze all processes of containers",
		Args:  cobra.MinimumNArgs(1),
		RunE:  func(cmd *cobra.Command, args []string) error { return each(cmd, args, e.Life().Pause) },
	}
}

func unpauseCommand(e *engine.Engine) *cobra.Command {
	return &cobra.Command{
		Use:   "unpause CONTAINER…",
		Short: "Let the processes of paused containers continue",
		Args:  cobra.MinimumNArgs(1),
		RunE:  func(cmd *cobra.Command, args []string) error { return each(cmd, args, e.Life().Unpause) },
	}
}

func updateCommand(e *engine.Engine) *cobra.Command {
	var opts life.UpdateOptions
	var restart string
	cmd := &cobra.Command{
		Use:     "update [flags] CONTAINER…",
		Short:   "Change limits of containers, also while they run",
		Example: `  gocker update -m 512m --memory-swap 1g --cpus 2 web`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().NFlag() == 0 {
				return errors.New("update wants a flag that says what to change; see: gocker update --help")
			}
			if cmd.Flags().Changed("restart") {
				policy, err := describe.ParseRestart(restart)
				if err != nil {
					return err
				}
				opts.Restart = &policy
			}
			return each(cmd, args, func(arg string) error { return e.Life().Update(arg, opts) })
		},
	}
	changeableFlags(cmd.Flags(), &opts.Limits)
	cmd.Flags().StringVar(&restart, "restart", "", "`no|on-failure[:times]|always|unless-stopped`: whether to start it again when it ends")
	return cmd
}
