//go:build linux

package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"gocker/final/internal/engine"
)

func killCommand(e *engine.Engine) *cobra.Command {
	var signal string
	cmd := &cobra.Command{
		Use:   "kill [flags] CONTAINER…",
		Short: "Send a signal to the first process of containers",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return each(cmd, args, func(arg string) error { return e.Kill(arg, signal) })
		},
	}
	cmd.Flags().StringVarP(&signal, "signal", "s", "KILL", "`signal`, by name or number")
	return cmd
}

func startCommand(e *engine.Engine) *cobra.Command {
	return &cobra.Command{
		Use:   "start [flags] CONTAINER…",
		Short: "Start containers that do not run",
		Args:  cobra.MinimumNArgs(1),
		RunE:  func(cmd *cobra.Command, args []string) error { return each(cmd, args, e.Start) },
	}
}

func stopCommand(e *engine.Engine) *cobra.Command {
	var seconds int
	cmd := &cobra.Command{
		Use:   "stop [flags] CONTAINER…",
		Short: "Ask containers to end, and kill those that do not",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return each(cmd, args, func(arg string) error { return e.Stop(arg, time.Duration(seconds)*time.Second) })
		},
	}
	cmd.Flags().IntVarP(&seconds, "time", "t", 10, "`seconds` until it is killed")
	return cmd
}

func logsCommand(e *engine.Engine) *cobra.Command {
	var opts engine.LogOptions
	var tail string
	cmd := &cobra.Command{
		Use:   "logs [flags] CONTAINER",
		Short: "Show what a detached container wrote",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.Tail = -1
			if tail != "all" {
				if _, err := fmt.Sscanf(tail, "%d", &opts.Tail); err != nil || opts.Tail < 0 {
					return exit{exitGocker, fmt.Errorf("--tail %q: want a number of lines, or all", tail)}
				}
			}
			return e.Logs(args[0], opts, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&opts.Follow, "follow", "f", false, "go on until the container ends")
	f.BoolVarP(&opts.Timestamps, "timestamps", "t", false, "begin each line with its time")
	f.StringVarP(&tail, "tail", "n", "all", "only the last `lines`")
	return cmd
}
