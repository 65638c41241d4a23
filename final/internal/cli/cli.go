//go:build linux

// Package cli is the command line: a file for each command, which parses, calls one of the rooms, and prints.
package cli

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"gocker/final/internal/engine"
	"gocker/final/internal/life"
	"gocker/final/internal/whynot"
	"gocker/step01-pull/shared/advice"
	"gocker/step01-pull/shared/dirs"
)

// Exit statuses as docker has them.
const (
	exitFailed = 1   // a command other than run failed
	exitGocker = 125 // gocker run failed, not the container, or there is no such flag; see also life.NotStarted
)

// exit is an error with the status that the program ends with, and with nothing to say if err is nil.
type exit struct {
	status int
	err    error
}

func (e exit) Error() string { return fmt.Sprint(e.err) }
func (e exit) Unwrap() error { return e.err }

// Command is the command line for args; without args that of all commands. Each command works on e, which the flags change.
func Command(e *engine.Engine, args ...string) *cobra.Command {
	root := &cobra.Command{
		Use:   "gocker",
		Short: "Runs containers, and shows how it is done",
		// of SuggestionsFor
		SuggestionsMinimumDistance: 2,
		SilenceErrors:              true,
		SilenceUsage:               true,
		// completion has a file of its own.
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.PersistentFlags().StringVar(&e.Dirs.Root, "root", e.Dirs.Root, "`folder` of images and layers (GOCKER_ROOT)")
	root.PersistentFlags().StringVar(&e.Dirs.Run, "run", e.Dirs.Run, "`folder` of containers (GOCKER_RUN)")
	globalFlags(root)
	root.SetHelpFunc(printHelp)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return exit{exitGocker, advice.Add(err, "%s", cmp.Or(instead(cmd, err), "see: "+cmd.CommandPath()+" --help"))}
	})
	// Making all of them takes longer than the kernel needs for a container's namespaces.
	wanted := firstWord(args)
	all := append(containerCommands, otherCommands...)
	if wanted == "" { // else it is not asked for, and takes a moment
		root.Version = thisBuild().String()
		if slices.Equal(args, []string{"--version"}) {
			all = nil
		}
	}
	if only := slices.IndexFunc(all, func(c named) bool { return c.name == wanted }); only >= 0 {
		all = all[only : only+1]
	}
	for _, c := range all {
		root.AddCommand(c.make(e))
	}
	if strings.HasPrefix(wanted, cobra.ShellCompRequestCmd) {
		complete(e, root)
	}
	sayUsage(root)
	return root
}

// sayUsage has all commands below cmd say what they want if they get something else.
func sayUsage(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		sayUsage(sub)
		check := sub.Args
		if check == nil { // any number of them will do
			continue
		}
		sub.Args = func(cmd *cobra.Command, args []string) error {
			err := check(cmd, args)
			switch {
			case err == nil || errors.As(err, &exit{}):
				return err
			case cmd.HasSubCommands():
				return advice.Add(err, "see: %s --help", cmd.CommandPath())
			}
			return advice.Add(fmt.Errorf("%s: %w", cmd.Name(), err), "usage: %s %s", cmd.Parent().CommandPath(), cmd.Use)
		}
	}
}

// noArgs is cobra.NoArgs for commands that have no others below them: it does not call an argument a command.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("takes no arguments, and got %q", args)
	}
	return nil
}

// named is a command that is made when it is wanted.
type named struct {
	name string
	make func(*engine.Engine) *cobra.Command
}

var otherCommands = []named{
	{"inspect", inspectCommand},
	{"pull", pullCommand}, {"push", pushCommand}, {"search", searchCommand}, {"images", imagesCommand}, {"rmi", rmiCommand}, {"tag", tagCommand}, {"untag", untagCommand},
	{"history", historyCommand}, {"save", saveCommand}, {"load", loadCommand}, {"import", importCommand}, {"login", loginCommand}, {"logout", logoutCommand},
	{"container", containerCommand}, {"image", imageCommand}, {"volume", volumeCommand}, {"network", networkCommand}, {"system", systemCommand},
	{"learn", learnCommand}, {"healthcheck", healthcheckCommand}, {"doctor", doctorCommand}, {"info", infoCommand}, {"version", versionCommand},
	{"unshare", unshareCommand}, {"completion", completionCommand},
}

// Main runs the command line and returns the program's exit status.
func Main(args []string) int {
	syscall.Umask(0o022) // a container's users read what is made for them, /etc/hosts for one, whatever root's umask is
	args = separated(args)
	root := Command(&engine.Engine{Dirs: dirs.Default()}, args...)
	root.SetArgs(args)
	err := whynot.CanOpen()
	if err == nil {
		err = root.Execute()
	}
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
	if hint := elsewhere[firstWord(args)]; hint != "" {
		err = advice.Add(err, "%s", hint)
	}
	switch {
	case advice.Of(err) != "":
	case errors.Is(err, syscall.ENOSPC):
		err = advice.Add(err, "the disk is full; to make room: gocker system prune, or gocker rm containers that wrote much (gocker ps --size)")
	case errors.Is(err, syscall.EMFILE):
		err = whynot.MoreFiles(err)
	case errors.Is(err, os.ErrPermission) && os.Geteuid() != 0:
		err = advice.Add(err, "only root may do this: sudo gocker %s …", firstWord(args))
	}
	fmt.Fprint(os.Stderr, advice.Print("gocker", err))
	return status
}

// failedStatus is the exit status if err kept a command from running, or other if it is not the command's fault.
func failedStatus(err error, other int) int {
	var interrupted life.Interrupted
	if errors.As(err, &interrupted) {
		return 128 + int(interrupted.Signal)
	}
	if errors.Is(err, life.ErrNoTerminal) { // docker's own client finds that
		return exitFailed
	}
	return life.NotStarted(err, other)
}

// help is what a command does that only groups others: Args has refused a name that none of them has.
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
