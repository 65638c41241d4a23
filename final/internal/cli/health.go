//go:build linux

package cli

import (
	"errors"
	"fmt"
	"strings"

	docker "github.com/moby/moby/api/types/container"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gocker/final/internal/describe"
	"gocker/final/internal/engine"
	"gocker/final/internal/images"
	"gocker/step01-pull/shared/advice"
)

// healthFlags registers the flags of health checks. The function that it returns puts them into opts.
func healthFlags(f *pflag.FlagSet, opts *describe.Options) (finish func() error) {
	var h docker.HealthConfig
	var command string
	var none bool
	f.StringVar(&command, "health-cmd", "", "`command` that asks the container whether it works, for its shell, or as a list in JSON; none: nothing asks (default the image's)")
	f.DurationVar(&h.Interval, "health-interval", 0, "`time` between two such commands: 500ms, 1m30s (default 30s)")
	f.DurationVar(&h.Timeout, "health-timeout", 0, "`time` after which such a command is killed, and has failed (default 30s)")
	f.IntVar(&h.Retries, "health-retries", 0, "`number` of failures in a row that make a container unhealthy (default 3)")
	f.DurationVar(&h.StartPeriod, "health-start-period", 0, "`time` after its start in which failures do not count (default 0s)")
	f.DurationVar(&h.StartInterval, "health-start-interval", 0, "`time` between two such commands in this period (default 5s)")
	f.BoolVar(&none, "no-healthcheck", false, "do not run the image's health check")
	return func() error {
		wanted := false
		f.Visit(func(flag *pflag.Flag) {
			wanted = wanted || strings.HasPrefix(flag.Name, "health-")
		})
		switch {
		case none && wanted:
			return advice.Add(errors.New("--no-healthcheck and --health-… contradict each other"), "leave out one of them")
		case none || command == "none":
			opts.Healthcheck = &docker.HealthConfig{Test: []string{"NONE"}}
		case wanted:
			if command != "" {
				h.Test = images.ProbeOf(command)
			}
			opts.Healthcheck = &h
		}
		return nil
	}
}

func healthcheckCommand(e *engine.Engine) *cobra.Command {
	cmd := &cobra.Command{Use: "healthcheck", Short: "Ask containers whether they work", Args: cobra.NoArgs, RunE: help}
	cmd.AddCommand(&cobra.Command{
		Use:   "run CONTAINER",
		Short: "Run a container's health check once, now",
		Long: "Run a container's health check once, now. The exit status is 0 if the container is healthy, 1 if it is not, and 125 if\n" +
			"that cannot be known: the container does not run, or has no health check. The result counts as any other.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := interruptible()
			defer stop()
			healthy, err := e.Life().Probe(ctx, args[0])
			if err != nil {
				return exit{exitGocker, err}
			}
			if !healthy {
				fmt.Fprintln(cmd.OutOrStdout(), docker.Unhealthy)
				return exit{exitFailed, nil}
			}
			return nil
		},
	})
	return cmd
}
