//go:build linux

package cli

import (
	"os"

	"github.com/spf13/cobra"

	"gocker/final/internal/engine"
	"gocker/final/internal/life"
	"gocker/step04-overlay/story"
)

func execCommand(e *engine.Engine) *cobra.Command {
	var opts life.ExecOptions
	var detach bool
	var envFiles []string
	var told bool
	cmd := &cobra.Command{
		Use:   "exec [flags] CONTAINER COMMAND [ARG…]",
		Short: "Run one more command in a running container",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var tell story.Story
			if told {
				tell = story.Print(cmd.ErrOrStderr())
			}
			env, err := readLines("env-file", envFiles, os.LookupEnv)
			if err != nil {
				return err
			}
			opts.Args, opts.Env = args[1:], append(env, fromHost(opts.Env)...)
			if detach {
				return ended(0, e.Life().ExecDetached(args[0], opts, tell), exitFailed)
			}
			status, err := e.Life().Exec(args[0], opts, standard, tell)
			return ended(status, err, exitFailed)
		},
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // the flags behind CONTAINER are the command's
	f.BoolVarP(&detach, "detach", "d", false, "run it in the background")
	f.StringVar(&opts.DetachKeys, "detach-keys", "ctrl-p,ctrl-q", "`keys` that leave it, with --tty; it continues")
	f.BoolVar(&told, "explain", false, "tell what gocker asks of the kernel, and the commands that do it by hand")
	f.BoolVarP(&opts.Interactive, "interactive", "i", false, "pass standard input to the command")
	f.BoolVarP(&opts.Terminal, "tty", "t", false, "give the command a terminal")
	f.VarP((*list)(&opts.Env), "env", "e", "environment variable: `KEY=value`, or KEY for the host's value")
	f.Var((*list)(&envFiles), "env-file", "`file` with environment variables, one in each line")
	f.BoolVar(&opts.Privileged, "privileged", false, "with all capabilities")
	f.StringVarP(&opts.Workdir, "workdir", "w", "", "working `folder`")
	f.StringVarP(&opts.User, "user", "u", "", "`user[:group]`: names from the image, or numbers")
	return cmd
}
