//go:build linux

package cli

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gocker/final/internal/containers"
	"gocker/final/internal/engine"
	"gocker/final/internal/filter"
	"gocker/final/internal/life"
	"gocker/final/internal/logs"
	"gocker/step01-pull/shared/advice"
	"gocker/step04-overlay/story"
)

func startCommand(e *engine.Engine) *cobra.Command {
	var stay, interactive, told bool
	attached := life.AttachOptions{}
	cmd := &cobra.Command{
		Use:   "start [flags] CONTAINER…",
		Short: "Start containers that do not run",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var tell story.Story
			if told {
				tell = story.Print(cmd.ErrOrStderr())
			}
			if !stay && !interactive {
				return each(cmd, args, func(arg string) error { return e.Life().Start(arg, tell) })
			}
			if len(args) > 1 {
				return exit{exitFailed, fmt.Errorf("start --attach: %d containers, and one terminal", len(args))}
			}
			streams := standard
			if !interactive {
				streams.Stdin = nil
			}
			status, err := e.Life().StartAttached(args[0], attached, streams, tell)
			if err != nil && !errors.Is(err, life.ErrLeft) { // also if there is no such command
				return err
			}
			return ended(status, err, exitFailed)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&told, "explain", false, "tell what gocker asks of the kernel, and the commands that do it by hand")
	f.BoolVarP(&stay, "attach", "a", false, "show its output until it ends, and pass signals to it")
	f.BoolVarP(&interactive, "interactive", "i", false, "pass standard input to it, and stay until it ends")
	attachFlags(f, &attached)
	return cmd
}

func attachCommand(e *engine.Engine) *cobra.Command {
	var noStdin bool
	attached := life.AttachOptions{}
	cmd := &cobra.Command{
		Use:   "attach [flags] CONTAINER",
		Short: "Connect this terminal to a running container",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			streams := standard
			if noStdin {
				streams.Stdin = nil
			}
			status, err := e.Life().Attach(args[0], attached, streams)
			return ended(status, err, exitFailed)
		},
	}
	cmd.Flags().BoolVar(&noStdin, "no-stdin", false, "do not pass standard input to the container")
	attachFlags(cmd.Flags(), &attached)
	return cmd
}

func attachFlags(f *pflag.FlagSet, opts *life.AttachOptions) {
	f.StringVar(&opts.DetachKeys, "detach-keys", "ctrl-p,ctrl-q", "`keys` that leave a container; the container continues")
	f.BoolVar(&opts.SigProxy, "sig-proxy", true, "pass signals to the container")
}

func stopCommand(e *engine.Engine) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stop [flags] CONTAINER…",
		Short: "Ask containers to end, and kill each one that does not",
		Args:  cobra.MinimumNArgs(1),
	}
	opts := stopFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return each(cmd, args, func(arg string) error { return e.Life().Stop(arg, opts()) })
	}
	return cmd
}

func restartCommand(e *engine.Engine) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "restart [flags] CONTAINER…",
		Short: "Stop containers and start them again",
		Args:  cobra.MinimumNArgs(1),
	}
	opts := stopFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return each(cmd, args, func(arg string) error { return e.Life().Restart(arg, opts()) })
	}
	return cmd
}

// stopFlags registers the flags of stop and restart. docker has renamed --time to --timeout; both are taken.
func stopFlags(f *pflag.FlagSet) func() life.StopOptions {
	var opts life.StopOptions
	f.StringVarP(&opts.Signal, "signal", "s", "", "`signal` that asks it to end (default: the container's own, or SIGTERM)")
	seconds := timeFlag(f, "`seconds` until it is killed; -1: never (default: the container's own, or 10)")
	return func() life.StopOptions {
		opts.Seconds = seconds()
		return opts
	}
}

// timeFlag registers -t. Its result is nil if the user has not set the flag.
func timeFlag(f *pflag.FlagSet, usage string) func() *int {
	seconds := f.IntP("time", "t", 0, usage)
	f.Lookup("time").DefValue = "" // it is not 0
	f.IntVar(seconds, "timeout", 0, "the same as --time")
	f.Lookup("timeout").DefValue = ""
	return func() *int {
		if f.Changed("time") || f.Changed("timeout") {
			return seconds
		}
		return nil
	}
}

func killCommand(e *engine.Engine) *cobra.Command {
	var signal string
	cmd := &cobra.Command{
		Use:   "kill [flags] CONTAINER…",
		Short: "Send a signal to the first process of containers",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return each(cmd, args, func(arg string) error { return e.Life().Kill(arg, signal) })
		},
	}
	cmd.Flags().StringVarP(&signal, "signal", "s", "KILL", "`signal`, by name or number")
	return cmd
}

func waitCommand(e *engine.Engine) *cobra.Command {
	var condition string
	cmd := &cobra.Command{
		Use:   "wait [flags] CONTAINER…",
		Short: "Wait until containers have ended, and print their exit statuses",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return eachDo(args, func(arg string) error {
				status, err := e.Life().Wait(arg, condition)
				if err == nil {
					fmt.Fprintln(cmd.OutOrStdout(), status)
				}
				return err
			})
		},
	}
	cmd.Flags().StringVar(&condition, "condition", life.WaitStopped, "`stopped|next-exit|removed|running|healthy|unhealthy`: what to wait for")
	return cmd
}

func renameCommand(e *engine.Engine) *cobra.Command {
	return &cobra.Command{
		Use:   "rename CONTAINER NAME",
		Short: "Give a container a new name",
		Args:  cobra.ExactArgs(2),
		RunE:  func(_ *cobra.Command, args []string) error { return e.Containers().Rename(args[0], args[1]) },
	}
}

func rmCommand(e *engine.Engine) *cobra.Command {
	var opts life.RmOptions
	cmd := &cobra.Command{
		Use:   "rm [flags] CONTAINER…",
		Short: "Remove containers",
		Args:  cobra.MinimumNArgs(1),
	}
	f := cmd.Flags()
	f.BoolVarP(&opts.Force, "force", "f", false, "also remove running containers; a missing container is no error")
	f.BoolVarP(&opts.Volumes, "volumes", "v", false, "also remove their volumes that have no name")
	seconds := timeFlag(f, "with --force, `seconds` until it is killed (default 0: at once)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		opts.Stop.Seconds = seconds()
		return eachDo(args, func(arg string) error {
			err := e.Life().Remove(arg, opts)
			switch {
			case opts.Force && errors.Is(err, containers.ErrNoContainer):
				fmt.Fprint(cmd.ErrOrStderr(), advice.Print("gocker", err)) // as docker: told, and no failure
				return nil
			case err == nil:
				fmt.Fprintln(cmd.OutOrStdout(), arg)
			}
			return err
		})
	}
	return cmd
}

func logsCommand(e *engine.Engine) *cobra.Command {
	var opts logs.Options
	var tail, since, until string
	cmd := &cobra.Command{
		Use:   "logs [flags] CONTAINER",
		Short: "Show what a container wrote",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			opts.Tail = -1
			if tail != "all" {
				if opts.Tail, err = strconv.Atoi(tail); err != nil {
					return fmt.Errorf("--tail %q: want a number of lines, or all", tail)
				}
			}
			if opts.Since, err = parseTime("since", since); err != nil {
				return err
			}
			if until == "0" { // as docker has it: no time
				until = ""
			}
			if opts.Until, err = parseTime("until", until); err != nil {
				return err
			}
			return e.Look().Logs(args[0], opts, cmd.OutOrStdout(), cmd.ErrOrStderr(), say)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&opts.Follow, "follow", "f", false, "continue until the container ends")
	f.BoolVarP(&opts.Timestamps, "timestamps", "t", false, "begin each line with its time")
	f.BoolVar(&opts.Details, "details", false, "begin each line with the labels, variables and tag that --log-opt has chosen")
	f.StringVarP(&tail, "tail", "n", "all", "only the last `lines`")
	timeFlags(f, &since, &until)
	return cmd
}

func timeFlags(f *pflag.FlagSet, since, until *string) {
	f.StringVar(since, "since", "", "show only what is later than this `time`: 2026-01-02T15:04:05Z, or 10m (ten minutes ago)")
	f.StringVar(until, "until", "", "show only what is earlier than this `time`")
}

// parseTime reads the time of a flag; an empty one is no time.
func parseTime(flag, s string) (t time.Time, err error) {
	if s == "" {
		return t, nil
	}
	if t, err = filter.Time(s); err != nil {
		err = fmt.Errorf("--%s %q: %w", flag, s, err)
	}
	return t, err
}
