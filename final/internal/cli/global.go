//go:build linux

package cli

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"gocker/step01-pull/shared/advice"
)

// Flags that scripts write between "docker" and the command. Behind the command their letters are other flags.

// withValue are those that take the next argument, if no "=" is in them.
var withValue = []string{"--root", "--run", "--config", "--log-level", "-l", "--host", "-H", "--context", "-c"}

func globalFlags(root *cobra.Command) {
	root.TraverseChildren = true
	root.PersistentPreRun = nameVariables
	root.Args, root.RunE = knownCommand, help // by itself cobra asks only without TraverseChildren
	f := root.Flags()
	f.BoolP("debug", "D", false, "changes nothing; gocker run --explain tells what it does")
	f.VarP(setFlag{logLevel}, "log-level", "l", "`debug|info|warn|error|fatal`: changes nothing")
	f.Var(setFlag{func(folder string) error { return os.Setenv("DOCKER_CONFIG", folder) }}, "config", "`folder` of config.json, with the credentials for registries (DOCKER_CONFIG)")
	f.VarP(setFlag{noDaemon("--host")}, "host", "H", "changes nothing: gocker has no `daemon`")
	f.VarP(setFlag{noDaemon("--context")}, "context", "c", "changes nothing: gocker has no `daemon`")
}

func knownCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	err := fmt.Errorf("unknown command %q for %q", args[0], root.Name())
	if similar := root.SuggestionsFor(args[0]); len(similar) > 0 {
		err = fmt.Errorf("%w\n\nDid you mean this?\n\t%s", err, strings.Join(similar, "\n\t"))
	}
	return err
}

// A setFlag is a flag that does something when it is read.
type setFlag struct{ set func(value string) error }

func (f setFlag) Set(value string) error { return f.set(value) }
func (f setFlag) String() string         { return "" }
func (f setFlag) Type() string           { return "string" }

func logLevel(level string) error {
	if !slices.Contains([]string{"debug", "info", "warn", "error", "fatal"}, level) {
		return fmt.Errorf("there are debug, info, warn, error and fatal")
	}
	return nil
}

// nameVariables says the same of docker's environment variables, unless a flag has said it.
func nameVariables(cmd *cobra.Command, _ []string) {
	f := cmd.Root().Flags()
	if cmd.Name() == "completion" || strings.HasPrefix(cmd.Name(), cobra.ShellCompRequestCmd) || f.Changed("host") || f.Changed("context") {
		return
	}
	for _, name := range []string{"DOCKER_HOST", "DOCKER_CONTEXT"} {
		if value := os.Getenv(name); value != "" && value != "default" { // docker reads the second where the first is not set
			noDaemon(name)(value)
			return
		}
	}
}

func noDaemon(flag string) func(string) error {
	return func(value string) error {
		if value != "" && value != "default" {
			fmt.Fprintf(os.Stderr, "gocker has no daemon: it works on this machine, and %s %s changes nothing\n", flag, advice.Printable(value))
		}
		return nil
	}
}

// separated are args with "-Dl" as two flags: cobra would take the value behind it for a command.
func separated(args []string) []string {
	for i, arg := range args {
		rest, isCombined := strings.CutPrefix(arg, "-D")
		if isCombined && rest != "" && rest[0] != '=' && firstWord(args[:i]) == "" {
			return slices.Concat(args[:i], []string{"-D", "-" + rest}, args[i+1:])
		}
	}
	return args
}

// firstWord is the name of the command in args, if flags before it do not hide it.
func firstWord(args []string) string {
	for i := 0; i < len(args); i++ {
		switch {
		case slices.Contains(withValue, args[i]):
			i++
		case !strings.HasPrefix(args[i], "-"):
			return args[i]
		}
	}
	return ""
}
