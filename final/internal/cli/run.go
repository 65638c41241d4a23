//go:build linux

package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"gocker/final/internal/engine"
	"gocker/step01-pull/pull"
)

func runCommand(e *engine.Engine) *cobra.Command {
	var opts engine.RunOptions
	var entrypoint string
	var detach bool
	cmd := &cobra.Command{
		Use:   "run [flags] IMAGE [COMMAND [ARG…]]",
		Short: "Run a command in a new container",
		Example: `  gocker run --rm sample sh -c 'echo $$; hostname'
  gocker run --rm -it -m 64m --cpus 0.5 alpine`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return exit{exitGocker, errors.New("run wants an IMAGE; see: gocker run --help")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if opts.Image, err = pull.ParseReference(args[0]); err != nil {
				return exit{exitGocker, err}
			}
			opts.Args = args[1:]
			if cmd.Flags().Changed("entrypoint") {
				opts.Entrypoint = &entrypoint
			}
			opts.Env = fromHost(opts.Env)
			say := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
			if detach {
				id, err := e.Detach(opts, say)
				if err != nil {
					return exit{runStatus(err), err}
				}
				fmt.Fprintln(cmd.OutOrStdout(), id)
				return nil
			}
			return ended(e.Run(opts, standard, say))
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // the flags behind IMAGE are the command's
	f.BoolVarP(&detach, "detach", "d", false, "run it in the background and print its id; its output goes to gocker logs")
	f.BoolVar(&opts.Remove, "rm", false, "remove the container at its end")
	f.BoolVarP(&opts.Interactive, "interactive", "i", false, "pass standard input on")
	f.BoolVarP(&opts.Terminal, "tty", "t", false, "give it a terminal")
	f.StringVar(&opts.Name, "name", "", "`name` of the container")
	f.StringVarP(&opts.Hostname, "hostname", "h", "", "host `name` in the container (default its id)")
	f.StringArrayVarP(&opts.Env, "env", "e", nil, "environment variable: `KEY=value`, or KEY for the host's value")
	f.StringVarP(&opts.Workdir, "workdir", "w", "", "working `folder`")
	f.StringVarP(&opts.User, "user", "u", "", "`user[:group]`, names of the image or numbers")
	f.StringVar(&entrypoint, "entrypoint", "", "`command` in place of the image's")
	f.StringVarP(&opts.Limits.Memory, "memory", "m", "", "memory `limit`: bytes, with b, k, m or g")
	f.StringVar(&opts.Limits.CPUs, "cpus", "", "`number` of processors, for example 0.5")
	f.Int64Var(&opts.Limits.Pids, "pids-limit", 0, "most `processes`, -1 for no limit")
	mountFlags(f, &opts.Mounts)
	isolationFlags(f, &opts.Isolation)
	f.Bool("help", false, "help for run") // without its usual -h, which is --hostname
	return cmd
}

var standard = engine.Streams{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}

// ended turns how a command ended into how this program ends.
func ended(status int, err error) error {
	if err != nil {
		return exit{runStatus(err), err}
	}
	if status != 0 {
		return exit{status, nil}
	}
	return nil
}

// fromHost gives a variable that is named without a value the host's, as docker does; one that is not set is left out.
func fromHost(env []string) []string {
	var out []string
	for _, variable := range env {
		if !strings.Contains(variable, "=") {
			value, ok := os.LookupEnv(variable)
			if !ok {
				continue
			}
			variable += "=" + value
		}
		out = append(out, variable)
	}
	return out
}
