//go:build linux

// Package cli is the command line: a file for each command, which parses, calls the engine, and prints.
package cli

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"gocker/final/internal/engine"
	"gocker/step01-pull/advice"
	"gocker/step01-pull/dirs"
	"gocker/step05-namespaces/namespaces"
)

// Exit statuses as docker has them.
const (
	exitFailed        = 1   // a command, but not run, failed
	exitGocker        = 125 // gocker itself failed to run the container, or does not know a flag
	exitNotExecutable = 126
	exitNotFound      = 127
)

// exit is an error with the status that the program ends with, and with nothing to say if err is nil.
type exit struct {
	status int
	err    error
}

func (e exit) Error() string { return fmt.Sprint(e.err) }
func (e exit) Unwrap() error { return e.err }

// Command is the whole command line. Each command works on e, which the flags change.
func Command(e *engine.Engine) *cobra.Command {
	root := &cobra.Command{
		Use:           "gocker",
		Short:         "Runs containers, and shows how it is done",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().StringVar(&e.Dirs.Root, "root", e.Dirs.Root, "`folder` of images and layers (GOCKER_ROOT)")
	root.PersistentFlags().StringVar(&e.Dirs.Run, "run", e.Dirs.Run, "`folder` of containers (GOCKER_RUN)")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return exit{exitGocker, advice.Add(err, "see: %s --help", cmd.CommandPath())}
	})
	root.AddCommand(
		runCommand(e), createCommand(e), startCommand(e), execCommand(e), psCommand(e), logsCommand(e), attachCommand(e), waitCommand(e), restartCommand(e), renameCommand(e), eventsCommand(e), stopCommand(e), killCommand(e), rmCommand(e),
		pullCommand(e), imagesCommand(e), rmiCommand(e), loginCommand(e), logoutCommand(e), doctorCommand(e),
		imageCommand(e), pushCommand(e), saveCommand(e), loadCommand(e), tagCommand(e), untagCommand(e), historyCommand(e), commitCommand(e),
		systemCommand(e), volumeCommand(e), diffCommand(e), layersCommand(e), lsnsCommand(e), cpCommand(e),
		pauseCommand(e), unpauseCommand(e), updateCommand(e), statsCommand(e),
	)
	return root
}

// Main runs the command line and returns the program's exit status.
func Main(args []string) int {
	root := Command(&engine.Engine{Dirs: dirs.Default()})
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return 0
	}
	status := exitFailed
	var withStatus exit
	if errors.As(err, &withStatus) {
		if status = withStatus.status; withStatus.err == nil {
			return status
		}
		err = withStatus.err
	}
	fmt.Fprint(os.Stderr, advice.Print("gocker", err))
	return status
}

// runStatus is the exit status of a run that failed with err.
func runStatus(err error) int {
	var interrupted engine.Interrupted
	switch {
	case errors.Is(err, namespaces.ErrNotFound):
		return exitNotFound
	case errors.Is(err, namespaces.ErrNotExecutable):
		return exitNotExecutable
	case errors.As(err, &interrupted):
		return 128 + int(interrupted.Signal)
	}
	return exitGocker
}

// help is what a command does that only has others below it: Args has refused a name that none of them has.
func help(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// each calls do for every argument, prints those that went well, and goes on after an error; the errors are joined.
func each(cmd *cobra.Command, args []string, do func(arg string) error) error {
	return eachDo(args, func(arg string) error {
		err := do(arg)
		if err == nil {
			fmt.Fprintln(cmd.OutOrStdout(), arg)
		}
		return err
	})
}

// eachDo calls do for every argument, and goes on after an error; the errors are joined.
func eachDo(args []string, do func(arg string) error) (all error) {
	for _, arg := range args {
		all = errors.Join(all, do(arg))
	}
	return all
}
