//go:build linux

package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"gocker/final/internal/engine"
	"gocker/final/internal/images"
)

func systemCommand(e *engine.Engine) *cobra.Command {
	cmd := &cobra.Command{Use: "system", Short: "Commands for all that gocker has on the disk", Args: cobra.NoArgs, RunE: help}
	cmd.AddCommand(systemDfCommand(e), systemPruneCommand(e), systemCheckCommand(e), systemBootCommand(e), systemHaltCommand(e), infoCommand(e), eventsCommand(e))
	return cmd
}

func systemBootCommand(e *engine.Engine) *cobra.Command {
	return &cobra.Command{
		Use:   "boot",
		Short: "Start the containers that are to run after a start of the machine",
		Long: "Start the containers that are to run after a start of the machine, as their restart policies say. The init system\n" +
			"runs this command: see docs/container-life.md. Prints the names of those that it starts.\n\n" +
			"always          starts it\n" +
			"unless-stopped  starts it, unless a user has stopped it\n" +
			"on-failure      starts it if it had failed, or if the machine stopped under it",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return allTold(cmd, e.Life().Boot) },
	}
}

func systemHaltCommand(e *engine.Engine) *cobra.Command {
	return &cobra.Command{
		Use:   "halt",
		Short: "Stop all containers before the machine stops",
		Long: "Stop all containers before the machine stops, each as \"gocker stop\" does, all at once. The init system runs this\n" +
			"command: see docs/container-life.md. Unlike after \"gocker stop\", restart policies still hold at the next boot.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return allTold(cmd, e.Life().Halt) },
	}
}

// allTold prints the names of the containers with which something was done, and returns what failed.
func allTold(cmd *cobra.Command, do func(done func(name string), failed func(error))) (all error) {
	do(func(name string) { fmt.Fprintln(cmd.OutOrStdout(), name) }, func(err error) { all = errors.Join(all, err) })
	return all
}

func systemCheckCommand(e *engine.Engine) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Recompute every digest, compare every file of every layer, and look for leftovers",
		Long: "Recompute every digest, compare every file of every layer with what the registry sent, and look for leftovers.\n" +
			"Each line says what is wrong and, after the semicolon, what to do. The exit status is 0 if nothing is wrong.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			wrong := 0
			found := func(f images.Finding) {
				if !f.Kept {
					wrong++
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s; %s\n", f.Path, f.What, f.Advice)
			}
			leftovers, err := e.Containers().Leftovers()
			for _, path := range leftovers {
				found(images.Finding{Path: path, What: "what a crash has left of a container's removal", Advice: "the next removal of a container removes it"})
			}
			if err != nil {
				return err
			}
			lost, err := e.Networks().Strays(e.Containers().IsHeld)
			for _, s := range lost {
				found(images.Finding{Path: s.Path, What: s.What, Advice: s.Advice})
			}
			if err != nil {
				return err
			}
			checked, err := e.Images().Check(found)
			if err != nil {
				return err
			}
			if wrong > 0 {
				return exit{status: exitFailed}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d images and %d layers are as they should be\n", checked.Images, checked.Layers)
			return nil
		},
	}
}
