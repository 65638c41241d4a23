//go:build linux

package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/docker/cli/pkg/kvfile"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gocker/final/internal/engine"
	"gocker/step01-pull/pull"
)

func runCommand(e *engine.Engine) *cobra.Command {
	var detach bool
	cmd := &cobra.Command{
		Use:   "run [flags] IMAGE [COMMAND [ARG…]]",
		Short: "Run a command in a new container",
		Example: `  gocker run --rm sample sh -c 'echo $$; hostname'
  gocker run --rm -it -m 64m --cpus 0.5 alpine`,
		Args: wantImage,
	}
	options := runFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		opts, err := options(args)
		if err != nil {
			return exit{exitGocker, err}
		}
		if detach {
			id, err := e.Detach(opts, say)
			if err != nil {
				return exit{runStatus(err), err}
			}
			fmt.Fprintln(cmd.OutOrStdout(), id)
			return nil
		}
		return ended(e.Run(opts, standard, say))
	}
	cmd.Flags().BoolVarP(&detach, "detach", "d", false, "run it in the background and print its id; its output goes to gocker logs")
	return cmd
}

func createCommand(e *engine.Engine) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create [flags] IMAGE [COMMAND [ARG…]]",
		Short: "Make a container, for gocker start",
		Args:  wantImage,
	}
	options := runFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		opts, err := options(args)
		if err != nil {
			return exit{exitGocker, err}
		}
		id, err := e.Create(opts, say)
		if err != nil {
			return exit{runStatus(err), err}
		}
		fmt.Fprintln(cmd.OutOrStdout(), id)
		return nil
	}
	return cmd
}

func wantImage(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return exit{exitGocker, fmt.Errorf("%s wants an IMAGE; see: gocker %[1]s --help", cmd.Name())}
	}
	return nil
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// runFlags registers the flags that create and run have in common. options is what they say, once they are parsed.
func runFlags(cmd *cobra.Command) (options func(args []string) (engine.RunOptions, error)) {
	var opts engine.RunOptions
	f := cmd.Flags()
	f.SetInterspersed(false)                      // the flags behind IMAGE are the command's
	f.Bool("help", false, "help for "+cmd.Name()) // without its usual -h, which is --hostname
	var entrypoint string
	var envFile []string
	generalFlags(f, &opts, &entrypoint, &envFile)
	resourceFlags(f, &opts.Limits)
	mountFlags(f, &opts.Mounts)
	isolationFlags(f, &opts.Isolation)
	attributeFlags(f, &opts.Attributes)
	nameFlags(f, &opts.Names)
	return func(args []string) (_ engine.RunOptions, err error) {
		if opts.Image, err = pull.ParseReference(args[0]); err != nil {
			return opts, err
		}
		opts.Args = args[1:]
		if f.Changed("entrypoint") {
			opts.Entrypoint = &entrypoint
		}
		env, err := fromFiles(envFile)
		if err != nil {
			return opts, err
		}
		opts.Env = append(env, fromHost(opts.Env)...)
		return opts, nil
	}
}

func generalFlags(f *pflag.FlagSet, opts *engine.RunOptions, entrypoint *string, envFile *[]string) {
	f.BoolVar(&opts.Remove, "rm", false, "remove the container at its end")
	f.BoolVarP(&opts.Interactive, "interactive", "i", false, "pass standard input on")
	f.BoolVarP(&opts.Terminal, "tty", "t", false, "give it a terminal")
	f.StringVar(&opts.Name, "name", "", "`name` of the container")
	f.StringVarP(&opts.Hostname, "hostname", "h", "", "host `name` in the container (default its id)")
	f.StringArrayVarP(&opts.Env, "env", "e", nil, "environment variable: `KEY=value`, or KEY for the host's value")
	f.StringArrayVar(envFile, "env-file", nil, "`file` with a variable a line")
	f.StringVarP(&opts.Workdir, "workdir", "w", "", "working `folder`")
	f.StringVarP(&opts.User, "user", "u", "", "`user[:group]`, names of the image or numbers")
	f.StringVar(entrypoint, "entrypoint", "", "`command` in place of the image's")
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

// fromFiles reads variables, one a line as in --env; lines that begin with # say nothing.
func fromFiles(files []string) (env []string, err error) {
	for _, file := range files {
		more, err := kvfile.Parse(file, os.LookupEnv)
		if err != nil {
			return nil, fmt.Errorf("--env-file: %w", err)
		}
		env = append(env, more...)
	}
	return env, nil
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
